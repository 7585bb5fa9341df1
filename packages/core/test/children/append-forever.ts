import { EpisodeLogWriter } from "../../src/index.ts";
import { begin, turn } from "../episode.ts";

/** Appends until it is killed, and says after each flush how many lines are in the file. */
const writer = await EpisodeLogWriter.create(process.argv[2]!);
writer.append(begin("ep_1"));
for (let chunk = 0; ; chunk++) {
  writer.append(turn(chunk));
  writer.append(turn(chunk));
  await writer.flush();
  process.stdout.write(`${writer.length}\n`);
}
