import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AleError } from "@ale/core";
import { BYTE_ALPHABET, toByteAlphabet } from "./byte-alphabet.ts";

/**
 * A tokenizer for models of less than a million parameters: one token a word of a given list, bytes for everything else.
 * It is built from the list alone, so the same list always gives the same files, and no text is ever unknown.
 */

export const NANO_CONTROL_TOKENS = [
  "<|pad|>",
  "<|user|>",
  "<|act|>",
  "<|arg|>",
  "<|obs|>",
  "<|end|>",
] as const;

export const NANO_CHAT_TEMPLATE = readFileSync(
  new URL("./nano-chat-template.jinja", import.meta.url),
  "utf8",
);

/** What splits text before the vocabulary is looked up: lower-case words, numbers of at most two digits, runs of anything else. */
const PIECE = "[a-z]+|[0-9]{1,2}|[^a-z0-9]+";

export interface NanoTokenizer {
  /** Contents of tokenizer.json and tokenizer_config.json. */
  readonly tokenizer: Record<string, unknown>;
  readonly config: Record<string, unknown>;
  readonly vocabSize: number;
}

/**
 * `words` are texts such as `grep`, ` | ` or `>`; each must be one piece, or it could never match. Order and repetition do
 * not matter. Ids: control tokens, the 256 bytes, then the words in code-unit order.
 */
export function nanoTokenizer(words: readonly string[]): NanoTokenizer {
  const whole = new RegExp(`^(?:${PIECE})$`, "u");
  const unreachable = words.find((word) => !whole.test(word));
  if (unreachable !== undefined)
    throw new AleError(
      "unreachable-word",
      `${JSON.stringify(unreachable)} is more than one piece of ${PIECE}, so no text would ever use it`,
      { next: "List its pieces as words of their own." },
    );
  const tokens = new Set([
    ...NANO_CONTROL_TOKENS,
    ...BYTE_ALPHABET,
    ...[...words].sort().map(toByteAlphabet),
  ]);
  const vocab = Object.fromEntries([...tokens].map((token, id) => [token, id]));
  const addedTokens = NANO_CONTROL_TOKENS.map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  return {
    tokenizer: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: addedTokens,
      normalizer: null,
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          { type: "Split", pattern: { Regex: PIECE }, behavior: "Isolated", invert: false },
          { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
        ],
      },
      post_processor: null,
      decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        // Whole pieces are looked up first; without merges everything else falls apart into bytes.
        ignore_merges: true,
        vocab,
        merges: [],
      },
    },
    config: {
      tokenizer_class: "PreTrainedTokenizerFast",
      clean_up_tokenization_spaces: false,
      eos_token: "<|end|>",
      pad_token: "<|pad|>",
      chat_template: NANO_CHAT_TEMPLATE,
    },
    vocabSize: tokens.size,
  };
}

/** Writes tokenizer.json and tokenizer_config.json, byte for byte the same for the same words. */
export async function writeNanoTokenizer(
  directory: string,
  words: readonly string[],
): Promise<NanoTokenizer> {
  const nano = nanoTokenizer(words);
  await mkdir(directory, { recursive: true });
  const text = (value: unknown): string => `${JSON.stringify(value, null, 1)}\n`;
  await writeFile(join(directory, "tokenizer.json"), text(nano.tokenizer));
  await writeFile(join(directory, "tokenizer_config.json"), text(nano.config));
  return nano;
}
