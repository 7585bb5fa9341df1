import { z } from "zod";

/** The members of Hugging Face's tokenizer files that this package reads; all others pass through untouched. */

const AddedToken = z.looseObject({
  id: z.number().int().nonnegative(),
  content: z.string().min(1),
  special: z.boolean(),
});

export const TokenizerJson = z.looseObject({
  added_tokens: z.array(AddedToken),
  pre_tokenizer: z.unknown(),
  model: z.looseObject({
    type: z.string().default("BPE"),
    vocab: z.record(z.string(), z.number().int().nonnegative()),
  }),
});
export type TokenizerJson = z.infer<typeof TokenizerJson>;

/** Token settings are a text or an object with `content`; null means none. */
const TokenSetting = z
  .union([z.string(), z.looseObject({ content: z.string() }), z.null()])
  .optional()
  .transform((token) => (typeof token === "string" ? token : token?.content));

/** One template, or a list of named ones, of which the one for tool use is ours. */
const TemplateSetting = z
  .union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))])
  .optional()
  .transform((setting) => {
    if (setting === undefined || typeof setting === "string") return setting;
    const named =
      setting.find(({ name }) => name === "tool_use") ?? setting.find(({ name }) => name === "default");
    return named?.template;
  });

export const TokenizerConfigJson = z.looseObject({
  bos_token: TokenSetting,
  eos_token: TokenSetting,
  pad_token: TokenSetting,
  chat_template: TemplateSetting,
});

export const GenerationConfigJson = z.looseObject({
  eos_token_id: z.union([z.number().int(), z.array(z.number().int())]).optional(),
});
