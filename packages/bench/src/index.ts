export type * from "./family.ts";
export { type Expert, type ExpertOptions, type ExpertStep, expertPolicy } from "./oracle.ts";
export { contentDigest, FAMILIES, heldoutSet, makeTask, secretSalt, splitOf } from "./registry.ts";
export { NAMES, NANO_WORDS, pieces, unknownPieces } from "./words.ts";
