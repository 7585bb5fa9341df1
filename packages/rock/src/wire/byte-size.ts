/** A text such as "512m", "8g", "64KiB", "1.5G" as bytes; units are binary. undefined for anything else. */
export function parseByteSize(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*$/i.exec(text);
  if (match === null) return undefined;
  const exponent = ["", "k", "m", "g", "t"].indexOf(match[2]!.toLowerCase());
  const bytes = Math.floor(Number(match[1]) * 1_024 ** exponent);
  return bytes > 0 && Number.isSafeInteger(bytes) ? bytes : undefined;
}
