import { EpisodeIndex, openEpisodeStore } from "../../src/index.ts";

/** Opens an index over an empty store: nothing but this line may be printed. */
const index = await EpisodeIndex.open(":memory:", await openEpisodeStore(process.argv[2]!));
console.log(index.count());
index.close();
