import { AleError, EpisodeLogWriter } from "../../src/index.ts";
import { begin, turn } from "../episode.ts";

/** Run under a limit on file size: says what the writer reports when the file can grow no more. */
const writer = await EpisodeLogWriter.create(process.argv[2]!);
const codeOf = (error: unknown): string => (error instanceof AleError ? error.code : String(error));
writer.append(begin("ep_1"));
for (let chunk = 0; chunk < 100; chunk++) writer.append(turn(chunk));
const flushed = await writer.flush().then(() => "ok", codeOf);
let appended = "ok";
try {
  writer.append(turn(100));
} catch (error) {
  appended = codeOf(error);
}
const closed = await writer.close().then(() => "ok", codeOf);
console.log(JSON.stringify({ flushed, appended, closed }));
