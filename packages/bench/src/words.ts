/**
 * The closed vocabulary of the nano tasks. A nano policy reads and writes words, not bytes: text is cut into pieces by `pieces`,
 * and every piece that a task, a command of the reference solution or the environment's answer can contain is listed here, so
 * that a tokenizer with one token for each of `NANO_WORDS` never falls back to bytes on them. Anything else that a
 * policy may write is still representable byte by byte, only longer.
 */

/**
 * Names of files, scripts, rooms and values. Drawn at random for every task, so that the only way to write the right one is to
 * copy it. No name contains another (a `grep` for one never hits the other) and none is a command or a word of an instruction.
 */
export const NAMES: readonly string[] = (
  "agate amber aspen badger basil bison bobcat bramble cedar cherry clam clover cobra comet copper coral cougar crane " +
  "dahlia daisy dingo dove eagle eel egret elm falcon fern ferret finch flint fox gecko ginger goose grape hawk hazel " +
  "heron ivory jade jaguar jasper kelp kite koala larch lemon lily lion llama lotus lynx magpie mamba mango maple " +
  "marlin marten mink mole moss moth newt nutmeg oak ocelot olive opal orchid osprey otter panda peach pearl pebble " +
  "perch pigeon plum pony poppy puffin quail quartz rabbit raven reed robin ruby sable salmon seal shrew silt skunk " +
  "sloth slate snail spruce squid stork sumac swan tapir teal thistle tiger toad topaz trout tulip turtle viper walnut " +
  "weasel willow wolf wombat wren yew zebra"
).split(" ");

/** Names of tools and of their arguments. */
const TOOL_WORDS = "bash read write edit submit command path content old new".split(" ");

/** Commands with their options, and the fixed file names of the families. */
const COMMAND_WORDS = (
  "sort head tail tac cat grep echo sh mv cp chmod oracle nk n c vc l key test top out " +
  "sotr srt caat ct taac tc haed hed tial tal"
).split(" ");

/** Words of instructions and of data files. */
const TASK_WORDS = (
  "max min col of to lines with without in guess fix so passes move copy log err warn info x y z plus minus times " +
  "set port size rate depth seed width best acc loss first rest lock freeze open file follow from red blue green gold " +
  "climb bisect up down yes bad good"
).split(" ");

/** What shells and programs say when something goes wrong; an agent that errs reads these often. */
const ERROR_WORDS = (
  "no such o or directory not found cannot stat line invalid missing operand number llegal are the same and syntax unexpected " +
  "operator is a for reading failed near newline token while looking matching access mode after try ry help more information " +
  "usage option requires an argument standard input destination overwrite expected at field start create irectory nonexistent"
).split(" ");

/** What the agent's own tools say. */
const TOOL_ANSWERS = (
  "ok error exit killed timeout unknown tool value values for is string match matches empty too large many text control end call " +
  "characters cut"
).split(" ");

/** Runs of characters that are neither lower-case letters nor digits, exactly as they occur. */
const PUNCTUATION: readonly string[] = [
  " ",
  "\n",
  ".",
  "-",
  "/",
  " -",
  " +",
  " > ",
  " | ",
  " .",
  " *",
  " -L ",
  " $((",
  ")) > ",
  "+",
  "*",
  ": ",
  ":",
  "': N",
  ": N",
  " '",
  "'",
  "' ",
  "'\n",
  ": '",
  ": ‘",
  " ‘",
  "’",
  "’\n",
  "'\nT",
  "’\nT",
  " -- '",
  " --",
  ".\n",
  " `",
  " `)'",
  " `|'",
  "(",
  ")",
  ": (",
  ": D",
  " EOF ",
  ": [: -",
  ": [: I",
];

/** Every number of one or two digits, as written: longer ones are cut into pairs from the left. */
const NUMBERS: readonly string[] = [
  ...Array.from({ length: 10 }, (_, n) => String(n)),
  ...Array.from({ length: 100 }, (_, n) => String(n).padStart(2, "0")),
];

/** Pieces of the file modes that `security` asks for, which are constants of its commands. */
const CONSTANT_NUMBERS: ReadonlySet<string> = new Set(["40", "60", "64"]);

/**
 * Two-digit numbers that the families draw at random and that an agent only ever copies (what has to be compared is compared by a
 * program, or has one digit). Like names, they may be exchanged for one another within a trajectory.
 */
export const COPIED_NUMBERS: readonly string[] = NUMBERS.filter(
  (number) => /^[1-9]\d$/.test(number) && !CONSTANT_NUMBERS.has(number),
);

/**
 * Every word and every run of punctuation that occurs in instructions, reference actions, their observations and the usual error
 * messages of the families. Names come first, numbers of one and two digits last.
 */
export const NANO_WORDS: readonly string[] = [
  ...new Set([
    ...NAMES,
    ...TOOL_WORDS,
    ...COMMAND_WORDS,
    ...TASK_WORDS,
    ...ERROR_WORDS,
    ...TOOL_ANSWERS,
    ...PUNCTUATION,
    ...NUMBERS,
  ]),
];

const PIECE = /[a-z]+|[0-9]{1,2}|[^a-z0-9]+/g;

/** Cuts text into lower-case words, numbers of at most two digits and maximal runs of everything else. Joining the pieces gives the text back. */
export function pieces(text: string): string[] {
  return text.match(PIECE) ?? [];
}

const KNOWN: ReadonlySet<string> = new Set(NANO_WORDS);

/** The pieces of a text that have no token of their own. */
export function unknownPieces(text: string): string[] {
  return pieces(text).filter((piece) => !KNOWN.has(piece));
}
