import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { AleError, type Message, sha256, type ToolSchema } from "@ale/core";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { byteDecoder } from "./byte-decoder.ts";
import { chatMessage, chatTools, type Placeholder, type Protection } from "./chat-messages.ts";
import { controlText } from "./control-text.ts";
import { GenerationConfigJson, TokenizerConfigJson, TokenizerJson } from "./tokenizer-files.ts";

/**
 * Between text and tokens: a tokenizer with its chat template, read from the files of a Hugging Face model directory. Text
 * from outside never becomes a control token; only the template's own text does.
 */
export interface Codec {
  /** Highest token id plus one. */
  readonly vocabSize: number;
  /** A turn of the model ends with any of these; the first is what a scripted turn ends with. */
  readonly stopTokens: readonly number[];
  readonly padToken: number | null;
  readonly chatTemplateSha256: string;
  /** Plain content: `<|end|>` in it is nine characters, never a token. */
  encode(text: string): number[];
  /** What `render` returned, or any text made of `protect`ed content and control tokens. */
  encodeRendered(rendered: string): number[];
  /** Control tokens come out as their text. Throws a RangeError for an id outside the vocabulary. */
  decode(ids: readonly number[]): string;
  /** The prompt as the chat template writes it, with content still protected: for `encodeRendered`. */
  render(
    messages: readonly (Message | Placeholder)[],
    tools: readonly ToolSchema[],
    options: { readonly addGenerationPrompt: boolean },
  ): string;
  /** Makes text safe to stand in `encodeRendered`'s argument as content. */
  protect(text: string): string;
  /** The prompt as a person should read it: the escapes read back. */
  reveal(rendered: string): string;
  /** Id of a control token by its text, e.g. `<|arg|>`. */
  controlToken(text: string): number | undefined;
  isControl(id: number): boolean;
}

export interface CodecFiles {
  readonly tokenizer: unknown;
  readonly config: unknown;
  /** Text of chat_template.jinja; wins over the template in the configuration. */
  readonly chatTemplate?: string;
  readonly generationConfig?: unknown;
}

/** Reads tokenizer.json, tokenizer_config.json and, where present, chat_template.jinja and generation_config.json. */
export async function loadCodec(modelDir: string): Promise<Codec> {
  const read = (name: string): Promise<string> => readFile(join(modelDir, name), "utf8");
  const optional = async (name: string): Promise<string | undefined> => {
    try {
      return await read(name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  };
  try {
    const [tokenizer, config, chatTemplate, generation] = await Promise.all([
      read("tokenizer.json"),
      read("tokenizer_config.json"),
      optional("chat_template.jinja"),
      optional("generation_config.json"),
    ]);
    return codecFrom({
      tokenizer: JSON.parse(tokenizer),
      config: JSON.parse(config),
      ...(chatTemplate === undefined ? {} : { chatTemplate }),
      ...(generation === undefined ? {} : { generationConfig: JSON.parse(generation) }),
    });
  } catch (error) {
    if (error instanceof AleError) throw error;
    const what = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
    throw new AleError("model-files-unreadable", `${modelDir}: ${what}`, {
      next: "Point to a directory with tokenizer.json, tokenizer_config.json and a chat template.",
      cause: error,
    });
  }
}

export function codecFrom(files: CodecFiles): Codec {
  const tokenizer = TokenizerJson.parse(files.tokenizer);
  const config = TokenizerConfigJson.parse(files.config);
  requireByteLevel(tokenizer);
  const templateText = files.chatTemplate ?? config.chat_template;
  if (templateText === undefined)
    throw new AleError("no-chat-template", "the model directory has no chat template", {
      next: "Add chat_template.jinja, or chat_template in tokenizer_config.json.",
    });

  // Runs of white space (GPT-NeoX) are added tokens too, but compress text rather than steer: they stay with the content.
  const control = tokenizer.added_tokens.filter((token) => /\S/u.test(token.content));
  const controlIds = new Map(control.map((token) => [token.content, token.id]));
  const ids = new Set(controlIds.values());
  const everyToken = controlText(control.map((token) => token.content));
  const turnMarkers = controlText(control.filter((token) => token.special).map((token) => token.content));
  const protection: Protection = { foreign: everyToken.protect, own: turnMarkers.protect };

  const content = new Tokenizer(contentOnly(tokenizer, new Set(controlIds.keys())), config);
  const encode = (text: string): number[] =>
    text === "" ? [] : content.encode(text, { add_special_tokens: false }).ids;
  // A date in the prompt would make every day another context; templates fall back to a constant where there is no clock.
  const template = new Template(templateText.replaceAll("strftime_now", "clock_is_not_given"));
  const toolsCache = new WeakMap<readonly ToolSchema[], ReturnType<typeof chatTools>>();
  const lastOfModel = Object.values(tokenizer.model.vocab).reduce((last, id) => Math.max(last, id), -1);
  const vocabSize = 1 + tokenizer.added_tokens.reduce((last, { id }) => Math.max(last, id), lastOfModel);

  return {
    vocabSize,
    stopTokens: stopTokensOf(files, controlIds),
    padToken: controlIds.get(config.pad_token ?? "") ?? null,
    chatTemplateSha256: sha256(templateText),
    encode,
    encodeRendered: (rendered) =>
      everyToken
        .split(rendered)
        .flatMap((segment) => (segment.control ? [controlIds.get(segment.text)!] : encode(segment.text))),
    decode: byteDecoder(
      Object.entries(tokenizer.model.vocab),
      tokenizer.added_tokens.map((token) => [token.content, token.id]),
    ),
    render(messages, tools, options) {
      let chat = toolsCache.get(tools);
      if (chat === undefined) {
        chat = chatTools(tools, protection);
        toolsCache.set(tools, chat);
      }
      const context = {
        messages: messages.map((message) => chatMessage(message, tools, protection)),
        tools: chat.length === 0 ? null : chat,
        add_generation_prompt: options.addGenerationPrompt,
        bos_token: config.bos_token ?? null,
        eos_token: config.eos_token ?? null,
        pad_token: config.pad_token ?? null,
      };
      try {
        return template.render(context);
      } catch (error) {
        throw new AleError("chat-template-failed", `the chat template refused: ${(error as Error).message}`, {
          next: "Use a context profile whose messages this model's template supports.",
          cause: error,
        });
      }
    },
    protect: everyToken.protect,
    reveal: everyToken.reveal,
    controlToken: (text) => controlIds.get(text),
    isControl: (id) => ids.has(id),
  };
}

/** The tokenizer without its control tokens, whose ids no content can reach. */
function contentOnly(tokenizer: TokenizerJson, control: ReadonlySet<string>): TokenizerJson {
  const vocab = Object.entries(tokenizer.model.vocab).filter(([token]) => !control.has(token));
  return {
    ...tokenizer,
    added_tokens: tokenizer.added_tokens.filter((token) => !control.has(token.content)),
    model: { ...tokenizer.model, vocab: Object.fromEntries(vocab) },
  };
}

function stopTokensOf(files: CodecFiles, controlIds: ReadonlyMap<string, number>): readonly number[] {
  const config = TokenizerConfigJson.parse(files.config);
  const ofConfig = config.eos_token === undefined ? undefined : controlIds.get(config.eos_token);
  const generation = GenerationConfigJson.parse(files.generationConfig ?? {}).eos_token_id ?? [];
  const stop = [...new Set([...(ofConfig === undefined ? [] : [ofConfig]), ...[generation].flat()])];
  if (stop.length === 0)
    throw new AleError("no-stop-token", "the tokenizer names no end-of-turn token", {
      next: "Set eos_token in tokenizer_config.json to one of the added tokens.",
    });
  return stop;
}

/** Only byte-level tokenizers: others put meaning into the beginning of a text, so that joining pieces changes their tokens. */
function requireByteLevel(tokenizer: TokenizerJson): void {
  if (tokenizer.model.type === "BPE" && JSON.stringify(tokenizer.pre_tokenizer).includes('"ByteLevel"'))
    return;
  throw new AleError(
    "unsupported-tokenizer",
    `a ${tokenizer.model.type} tokenizer that is not byte-level BPE`,
    {
      next: "Use a model with a byte-level BPE tokenizer (Qwen, Llama 3, GPT families).",
    },
  );
}
