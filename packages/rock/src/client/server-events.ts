import { StringDecoder } from "node:string_decoder";
import type { Problem } from "../wire/problem.ts";
import { errorFromProblem } from "./transport.ts";

/** The events of a text/event-stream. An event `error` is thrown as the AleError it was on the server. */

export interface ServerEvent {
  readonly event: string;
  readonly data: unknown;
  readonly id?: string;
}

export async function* serverEvents(stream: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  for await (const chunk of stream) {
    rest += decoder.write(Buffer.from(chunk));
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const event = eventOf(rest.slice(0, end));
      rest = rest.slice(end + 2);
      if (event === undefined) continue;
      if (event.event === "error") throw errorFromProblem(event.data as Problem);
      yield event;
    }
  }
}

function eventOf(block: string): ServerEvent | undefined {
  let event = "message";
  let id: string | undefined;
  const data: string[] = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event = line.slice(7);
    if (line.startsWith("id: ")) id = line.slice(4);
    if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  if (data.length === 0) return undefined;
  return { event, data: JSON.parse(data.join("\n")), ...(id === undefined ? {} : { id }) };
}
