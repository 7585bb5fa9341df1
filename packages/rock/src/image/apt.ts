import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * What the host's apt configuration says about Debian mirrors and proxies. Images come from where the host itself gets its
 * packages, never from a mirror that is named in this code.
 */

export interface Source {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
  readonly signedBy: string | undefined;
}

/** Sources for one release in deb822 format; "" where the host has none. */
export function debianSources(suite: string, etc = "/etc/apt"): string {
  const known = hostSources(etc).flatMap((source) => forSuite(source, suite));
  return known.map(format).join("\n");
}

/** `Acquire::http::Proxy "…";` lines that the host uses. */
export function proxySettings(): string[] {
  const dump = spawnSync("apt-config", ["dump"], { encoding: "utf8" });
  if (dump.status !== 0) return [];
  return dump.stdout
    .split("\n")
    .filter((line) => /^Acquire::(https?|ftp)::(Proxy|proxy|[^ :]+::Proxy)[^ ]* "[^"]+";$/.test(line))
    .map((line) => line.replace(/;$/, ""));
}

function hostSources(etc: string): Source[] {
  const directory = join(etc, "sources.list.d");
  const names = existsSync(directory) ? readdirSync(directory).sort() : [];
  const files = [join(etc, "sources.list"), ...names.map((name) => join(directory, name))];
  return files.filter(existsSync).flatMap((file) => {
    const text = readFileSync(file, "utf8");
    if (file.endsWith(".sources")) return parseDeb822(text);
    return file.endsWith(".list") ? parseOneLine(text) : [];
  });
}

/** Only Debian's own archive, only this release with its updates: third-party repositories have no place in the image. */
function forSuite(source: Source, suite: string): Source[] {
  const wanted = [suite, `${suite}-updates`, `${suite}-security`, `${suite}/updates`];
  const suites = source.suites.filter((name) => wanted.includes(name));
  const archive = /\/debian(-security)?\/?$/.test(source.uri.replace(/[?#].*$/, ""));
  if (suites.length === 0 || !archive || !source.components.includes("main")) return [];
  return [{ ...source, suites, components: ["main"] }];
}

function format(source: Source): string {
  const signed = source.signedBy === undefined ? "" : `Signed-By: ${source.signedBy}\n`;
  return `Types: deb\nURIs: ${source.uri}\nSuites: ${source.suites.join(" ")}\nComponents: main\n${signed}`;
}

const words = (text: string | undefined): string[] => (text ?? "").split(/\s+/).filter((word) => word !== "");

export function parseDeb822(text: string): Source[] {
  return text
    .split(/\n\s*\n/)
    .map((stanza) => stanza.replace(/^#.*\n?/gm, ""))
    .flatMap((stanza) => {
      const field = (name: string): string | undefined =>
        new RegExp(`^${name}:[ \\t]*(.*(?:\\n[ \\t].*)*)`, "im").exec(stanza)?.[1];
      const enabled = (field("Enabled") ?? "yes").trim().toLowerCase();
      if (!words(field("Types")).includes("deb") || enabled === "no") return [];
      const key = field("Signed-By");
      // An embedded key (several lines) is passed on as it is.
      const signedBy = key?.includes("\n") ? key : words(key)[0];
      const shared = { suites: words(field("Suites")), components: words(field("Components")), signedBy };
      return words(field("URIs")).map((uri) => ({ uri, ...shared }));
    });
}

export function parseOneLine(text: string): Source[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line);
    if (!match) return [];
    const signedBy = /signed-by=(\S+)/.exec(match[1] ?? "")?.[1];
    return [{ uri: match[2]!, suites: [match[3]!], components: words(match[4]), signedBy }];
  });
}
