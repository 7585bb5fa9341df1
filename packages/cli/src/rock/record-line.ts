import type { Telemetry } from "@ale/core";
import type { Io } from "../io.ts";
import { printable } from "../printable.ts";

/** A telemetry record as one line for people. Whatever came out of a sandbox is made harmless for a terminal first. */
export function recordLine(record: Telemetry, paint: Io["paint"]): string {
  const time = new Date(record.at).toISOString().slice(11);
  const by = record.process === undefined ? "" : `  ${paint("dim", processText(record.process))}`;
  const more =
    record.suppressed === undefined ? "" : `  ${paint("yellow", `+${record.suppressed} left out`)}`;
  const head = `${paint("dim", time)}  ${record.kind.padEnd(15)} ${paint("dim", record.source.padEnd(10))}`;
  return `${head} ${printable(factsText(record))}${by}${more}`;
}

/** Which budget was used up: `of the sandbox: bytesUp 1000 of 1000`. */
export function budgetText({ budget }: NonNullable<Telemetry["net"]>): string | undefined {
  if (budget === undefined) return undefined;
  const { of, what, used, limit } = budget;
  return `of the ${of}: ${what} ${used} of ${limit}`;
}

function processText({ pid, command, exe, ...more }: NonNullable<Telemetry["process"]>): string {
  const lacking = more.arguments === "unknown" ? " (arguments unknown)" : "";
  return `${pid} ${printable((command ?? exe ?? "").slice(0, 120))}${lacking}`;
}

function factsText({ kind, net, dns, syscall, file, resource, tool, process }: Telemetry): string {
  if (net !== undefined) {
    const place = `${net.host ?? net.ip ?? ""}${net.port === undefined ? "" : `:${net.port}`}`;
    const said = [net.protocol, place, net.rule, budgetText(net), net.class, net.head].filter(
      (part) => part !== undefined,
    );
    const bytes = net.bytesUp === undefined ? [] : [`${net.bytesUp} up, ${net.bytesDown ?? 0} down`];
    return [...said, ...bytes].join(" ");
  }
  if (dns !== undefined) return `${dns.name} ${dns.allowed === false ? "refused" : "answered"}`;
  if (syscall !== undefined) return `${syscall.name} ${syscall.arguments ?? ""}`.trimEnd();
  if (file !== undefined) return `${file.change ?? "read"} ${file.path}`;
  if (resource !== undefined)
    return Object.entries(resource)
      .map(([name, value]) => `${name} ${Number(value.toFixed(2))}`)
      .join(", ");
  if (tool !== undefined) return `${tool.name} ${tool.command ?? ""}`.trimEnd();
  return kind === "process.exec" ? (process?.exe ?? "") : "";
}
