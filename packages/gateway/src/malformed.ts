/**
 * Why a chunk is not a well-formed tool call. The model reads these in the error observation that follows, so they are
 * short and made of plain words.
 */
export const malformed = {
  cutOff: "no end",
  noCall: "no tool call",
  unknownTool: "unknown tool",
  missingValue: (name: string) => `no value for ${name}`,
  tooManyValues: "too many values",
  badValue: (name: string, type: string) => `${name} is not ${type}`,
  controlToken: "control token in a value",
  notText: "not text",
  unclosedCall: "no </tool_call>",
  textAfterCall: "text after the tool call",
  badJson: "the tool call is not json",
  badCall: "the tool call needs a name and arguments",
} as const;
