/** Sizes as Docker and ROCK write them. */

const FORM = /^(\d+(?:\.\d+)?) ?(?:([kmgtp])(?:i?b)?|b)?$/i;
const POWER: Readonly<Record<string, number>> = { k: 1, m: 2, g: 3, t: 4, p: 5 };

/** Bytes of "8g", "512m", "2GiB", "50G", "1.5 gb", "1048576"; units are powers of 1024. undefined where it is no positive size. */
export function parseSize(text: string): number | undefined {
  const match = FORM.exec(text.trim());
  if (!match) return undefined;
  const bytes = Math.floor(Number(match[1]) * 1024 ** (POWER[match[2]?.toLowerCase() ?? ""] ?? 0));
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}
