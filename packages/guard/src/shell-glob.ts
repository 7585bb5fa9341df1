/** Shell globs as regular expressions. The globs come from an agent, so they are bounded and never make a broken expression. */

const MAX_STARS = 6;

export const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

/** Source of a regular expression for one shell glob. `*` and `?` do not cross a slash. */
export function globSource(glob: string): string {
  let source = "";
  for (let at = 0; at < glob.length; at++) {
    const char = glob[at]!;
    const closing = char === "[" ? glob.indexOf("]", at + 2) : char === "{" ? glob.indexOf("}", at) : -1;
    if (char === "*") source += source.endsWith("[^/]*") ? "" : "[^/]*";
    else if (char === "?") source += "[^/]";
    else if (char === "[" && closing > 0) {
      source += `[${glob
        .slice(at + 1, closing)
        .replace(/^!/, "^")
        .replace(/[\\[]/g, "\\$&")}]`;
      at = closing;
    } else if (char === "{" && closing > 0) {
      source += `(?:${glob
        .slice(at + 1, closing)
        .split(",")
        .map(globSource)
        .join("|")})`;
      at = closing;
    } else source += escaped(char);
  }
  return source;
}

/** Backtracking grows with the number of stars, so a pattern of too many is cut at the first and matches all that begins alike. */
export function soundPattern(pattern: string): string | null {
  const stars = pattern.split("[^/]*");
  const source = stars.length - 1 > MAX_STARS ? `${stars[0]}[\\s\\S]*` : pattern;
  try {
    new RegExp(source);
    return source;
  } catch {
    return null; // e.g. `[z-a]`, which the shell takes literally
  }
}
