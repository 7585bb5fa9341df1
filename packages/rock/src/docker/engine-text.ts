import type { IncomingMessage } from "node:http";
import { AleError } from "@ale/core";

/** Bodies of an engine's replies. */

/** At most 64 MiB: an inspection is some kilobytes. */
const LONGEST_TEXT = 64 * 2 ** 20;

export async function textOf(body: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let total = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    total += chunk.length;
    if (total > LONGEST_TEXT) throw new AleError("engine-reply", "the engine's answer does not end");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Undefined where it is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
