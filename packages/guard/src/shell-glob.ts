/**
 * Shell globs, and which paths they mean. Globs come from an agent, so they never become regular expressions: a path is matched by the set
 * of places that can be reached in it, part after part, which costs at most the length of the glob times that of the path, whatever the glob.
 */
export type GlobPart =
  | { readonly type: "text"; readonly text: string }
  /** `?`: one character of a name. `hidden`: also the dot that a name begins with, as for `find -name`. */
  | { readonly type: "any"; readonly hidden: boolean }
  /** `*`: any characters of a name. */
  | { readonly type: "star"; readonly hidden: boolean }
  /** `[a-z]`: one character of the ranges, or with `negated` one that is in none. */
  | {
      readonly type: "class";
      readonly negated: boolean;
      readonly ranges: readonly (readonly [string, string])[];
      readonly hidden: boolean;
    }
  /** `{a,b}` */
  | { readonly type: "either"; readonly of: readonly Glob[] }
  /** Nothing, or a slash and anything after it: all that lies below. */
  | { readonly type: "below" }
  /** Any directory, with the slash that ends it. */
  | { readonly type: "directory" };
export type Glob = readonly GlobPart[];

/** Reads one glob. Text in which nothing is special gives itself. */
export function parseGlob(text: string, { hidden = false } = {}): Glob {
  const parts: GlobPart[] = [];
  let plain = "";
  const flush = (): void => {
    if (plain !== "") parts.push({ type: "text", text: plain });
    plain = "";
  };
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    const closing = closingOf(text, at);
    if (char === "*" || char === "?") {
      flush();
      if (char === "?") parts.push({ type: "any", hidden });
      else if (parts.at(-1)?.type !== "star") parts.push({ type: "star", hidden });
    } else if (closing < 0) plain += char;
    else {
      flush();
      const inside = text.slice(at + 1, closing);
      parts.push(char === "[" ? classOf(inside, hidden) : eitherOf(inside, hidden));
      at = closing;
    }
  }
  flush();
  return parts;
}

/** No class and no list of alternatives that a person writes is longer; a bracket that is not closed by then is text. */
const MAX_BRACKETED = 4_096;

/** Where the bracket ends that opens here; -1 where none does. */
function closingOf(text: string, at: number): number {
  const char = text[at];
  if (char !== "[" && char !== "{") return -1;
  // `]` as the first of a class belongs to it.
  const inside = text.slice(at + 1, at + MAX_BRACKETED);
  const end = char === "[" ? inside.indexOf("]", 1) : inside.indexOf("}");
  if (end < 0 || (char === "{" && !inside.slice(0, end).includes(","))) return -1;
  return at + 1 + end;
}

const eitherOf = (inside: string, hidden: boolean): GlobPart => ({
  type: "either",
  of: inside.split(",").map((text) => parseGlob(text, { hidden })),
});

function classOf(inside: string, hidden: boolean): GlobPart {
  const negated = inside.startsWith("!") || inside.startsWith("^");
  const text = negated ? inside.slice(1) : inside;
  const ranges: [string, string][] = [];
  for (let at = 0; at < text.length; at++) {
    const from = text[at]!;
    const to = text[at + 1] === "-" ? text[at + 2] : undefined;
    ranges.push([from, to ?? from]);
    if (to !== undefined) at += 2;
  }
  return { type: "class", negated, ranges, hidden };
}

/** Whether the whole path is meant. */
export const matchesGlob = (glob: Glob, path: string): boolean =>
  after(glob, path, new Set([0])).has(path.length);

/** Places in the path that can be reached from the given ones. */
function after(glob: Glob, path: string, from: ReadonlySet<number>): ReadonlySet<number> {
  let places = from;
  for (const part of glob) {
    if (places.size === 0) return places;
    places = step(part, path, places);
  }
  return places;
}

function step(part: GlobPart, path: string, from: ReadonlySet<number>): ReadonlySet<number> {
  const to = new Set<number>();
  switch (part.type) {
    case "text":
      for (const at of from) if (path.startsWith(part.text, at)) to.add(at + part.text.length);
      return to;
    case "any":
    case "class":
      for (const at of from)
        if (isFree(path, at, part.hidden) && (part.type === "any" || isIn(part, path[at]!))) to.add(at + 1);
      return to;
    case "star":
      // Where another place went before, it went on to the end of the name.
      for (const at of [...from].sort((a, b) => a - b))
        for (let end = at; !to.has(end); end++) {
          to.add(end);
          if (!isFree(path, end, part.hidden)) break;
        }
      return to;
    case "either":
      for (const glob of part.of) for (const at of after(glob, path, from)) to.add(at);
      return to;
    case "below": {
      for (const at of from) to.add(at);
      const first = Math.min(...[...from].filter((at) => path[at] === "/"));
      for (let at = first + 1; at <= path.length; at++) to.add(at);
      return to;
    }
    case "directory": {
      const first = Math.min(...from);
      for (let at = first; at < path.length; at++) if (path[at] === "/") to.add(at + 1);
      return to;
    }
    default:
      return part satisfies never;
  }
}

/** Whether a wildcard may stand for the character here: no slash, and no dot at the beginning of a name. */
function isFree(path: string, at: number, hidden: boolean): boolean {
  const char = path[at];
  if (char === undefined || char === "/") return false;
  return hidden || char !== "." || (at > 0 && path[at - 1] !== "/");
}

function isIn({ negated, ranges }: Extract<GlobPart, { type: "class" }>, char: string): boolean {
  return ranges.some(([from, to]) => from <= char && char <= to) !== negated;
}
