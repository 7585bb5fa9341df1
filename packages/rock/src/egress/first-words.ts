import { readTlsHello } from "./tls-hello.ts";

/**
 * What the first bytes of a connection are: what kind of conversation somebody tried to begin. The capture sink reads them of connections
 * that policy refused, the proxy of those that it allows, to compare the name they claim. Hostile input; at most a few KB.
 */

export const CONVERSATIONS = [
  "ssh",
  "tls",
  "http",
  "http-connect",
  "stratum",
  "socks",
  "shell",
  "silent",
  "unknown",
] as const;
export type Conversation = (typeof CONVERSATIONS)[number];

export interface FirstWords {
  readonly class: Conversation;
  /** More bytes could still tell it better. */
  readonly undecided: boolean;
  /** The name that the client claims to want, without its port; null where it names none or hides it. */
  readonly claimed: string | null;
  readonly alpn: readonly string[];
  /** The first bytes as text for people: at most 200 characters, whatever is not printable replaced. */
  readonly head: string;
}

const MAX_HEAD = 200;
/** Beyond so many bytes nothing new is learnt. */
export const ENOUGH_BYTES = 16 * 1024;

const HTTP = /^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|PRI|CONNECT) /;
/** Methods are any words, and what follows a line like this a server takes for HTTP. */
const HTTP_LINE = /^([!#$%&'*+.^_`|~\w-]+) [^\r\n]* HTTP\/\d/;
/** A line that is not yet complete, and may become one. */
const HTTP_BEGINS = /^[!#$%&'*+.^_`|~\w-]*(?: [^\r\n]*)?$/;
/** Servers skip empty lines before a request; who sends more of them than this hides one. */
const MOST_BLANK = 256;
const STRATUM =
  /"method"\s*:\s*"(?:mining\.[a-z_]+|login|eth_submit[A-Za-z]*|eth_getWork|getjob|submit|keepalived)"/;
/** What a shell says when it is connected to somebody: a prompt, or the first answers to who and where. */
const SHELL =
  /^(?:\S{0,64}[$#] $|(?:[^ -~]\][ -~]{0,128}[^ -~])?(?:\[?[\w.-]+@[\w.-]+[: ][^\r\n]{0,128}[$#] )|(?:ba|da|z)?sh(?:-[\d.]+)?[$#] |uid=\d+\(|(?:\/bin\/)?(?:ba)?sh: (?:no job control|can't access tty|cannot set terminal)|bash: (?:cannot set terminal|no job control))/;

export function firstWords(bytes: Uint8Array): FirstWords {
  const text = Buffer.from(bytes.subarray(0, ENOUGH_BYTES)).toString("latin1");
  const words = (kind: Conversation, more: Partial<FirstWords> = {}): FirstWords => ({
    class: kind,
    undecided: false,
    claimed: null,
    alpn: [],
    head: printable(text),
    ...more,
  });
  if (bytes.length === 0) return words("silent", { undecided: true });
  if (text.startsWith("SSH-")) return words("ssh");
  if ("SSH-".startsWith(text)) return words("unknown", { undecided: true });
  if (bytes[0] === 22) return tls(bytes, words);
  if (STRATUM.test(text)) return words("stratum");
  const line = text.replace(/^[\r\n\t ]+/, "");
  if (text.length - line.length > MOST_BLANK) return words("http");
  const method = (HTTP.exec(line) ?? HTTP_LINE.exec(line))?.[1];
  if (method !== undefined) return http(method, line, words);
  if (isSocks(bytes)) return words("socks");
  if (SHELL.test(text)) return words("shell");
  const undecided =
    bytes.length < ENOUGH_BYTES && (HTTP_BEGINS.test(line) || text.startsWith("{") || bytes.length < 4);
  return words("unknown", { undecided });
}

type Words = (kind: Conversation, more?: Partial<FirstWords>) => FirstWords;

function tls(bytes: Uint8Array, words: Words): FirstWords {
  const hello = readTlsHello(bytes);
  if (hello.type === "other") return words("unknown");
  if (hello.type === "incomplete") return words("tls", { undecided: bytes.length < ENOUGH_BYTES });
  return words("tls", { claimed: hello.encrypted ? null : hello.serverName, alpn: hello.alpn });
}

function http(method: string, text: string, words: Words): FirstWords {
  if (method === "CONNECT") return words("http-connect", { claimed: hostOf(text.split(" ")[1]) });
  const end = text.indexOf("\r\n\r\n");
  if (method === "PRI") return words("http", { alpn: ["h2c"] });
  const head = end < 0 ? text : text.slice(0, end);
  // Two Host lines are how a proxy and a server are made to disagree: such a request claims nothing.
  const hosts = [...head.matchAll(/\r\nhost[ \t]*:[ \t]*([^\r\n]*)(?=\r\n|$)/gi)];
  const absolute = /^[A-Z]+ https?:\/\/([^/ ]+)/i.exec(text)?.[1];
  const named = hosts.length === 1 ? hostOf(hosts[0]![1]) : null;
  const claimed = absolute !== undefined && hostOf(absolute) !== named ? null : named;
  return words("http", { claimed, undecided: end < 0 && text.length < ENOUGH_BYTES });
}

/** A host without its port, lower-case, without a trailing dot. */
export function hostOf(text: string | undefined): string | null {
  const host = /^(\[[0-9a-f:.]+\]|[^:\s]+)(?::\d+)?$/i.exec(text?.trim() ?? "")?.[1];
  return host === undefined
    ? null
    : host
        .toLowerCase()
        .replace(/^\[|\]$/g, "")
        .replace(/\.$/, "");
}

function isSocks(bytes: Uint8Array): boolean {
  const [version, second = 0] = bytes;
  if (version === 5) return bytes.length >= 3 && second >= 1 && second <= 8 && bytes.length <= 2 + second + 1;
  return version === 4 && (second === 1 || second === 2) && bytes.length >= 8;
}

function printable(text: string): string {
  return text
    .slice(0, MAX_HEAD)
    .replace(/[^\x20-\x7e]/g, (char) => (char === "\n" || char === "\r" ? " " : "."));
}
