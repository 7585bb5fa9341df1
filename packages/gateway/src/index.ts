export type { Placeholder } from "./chat-messages.ts";
export { type Codec, type CodecFiles, codecFrom, loadCodec } from "./codec.ts";
export {
  type Conversation,
  type ConversationOptions,
  type ConversationStats,
  openConversation,
} from "./conversation.ts";
export { malformed } from "./malformed.ts";
export {
  NANO_CHAT_TEMPLATE,
  NANO_CONTROL_TOKENS,
  type NanoTokenizer,
  nanoTokenizer,
  writeNanoTokenizer,
} from "./nano-tokenizer.ts";
export { type ScriptedTurn, scriptedUpstream } from "./scripted-upstream.ts";
export type { Action, Parsed, ToolFormat } from "./tool-format.ts";
export { toolFormat } from "./tool-formats.ts";
export { argumentOrder } from "./tool-order.ts";
export type { Sampled, SampleRequest, Upstream } from "./upstream.ts";
