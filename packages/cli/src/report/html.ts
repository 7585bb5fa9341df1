/** Text that is already HTML. Anything else is escaped when it is put into a template. */
export interface Html {
  readonly html: string;
}

type Part = Html | string | number | null | undefined | readonly Part[];

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (found) => ENTITIES[found]!);

/** A template in which every inserted text is escaped. Lists are joined, null and undefined vanish. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  let text = strings[0] ?? "";
  for (const [i, part] of parts.entries()) text += textOf(part) + (strings[i + 1] ?? "");
  return { html: text };
}

/** Text that this program wrote itself as HTML (the style sheet, a finished drawing). Never for text from a log. */
export const trusted = (text: string): Html => ({ html: text });

/**
 * A self-contained page: no scripts, no requests (its own policy forbids them), light and dark. `main`: the whole element, in which every
 * text is escaped.
 */
export const htmlPage = ({ title, style, main }: { title: string; style: string; main: Html }): string =>
  html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${title}</title>
<style>${trusted(style)}</style>
</head>
<body>
${main}
</body>
</html>
`.html;

function textOf(part: Part): string {
  if (part === null || part === undefined) return "";
  if (typeof part === "number") return String(part);
  if (typeof part === "string") return escapeHtml(part);
  if (isList(part)) return part.map(textOf).join("");
  return part.html;
}

const isList = (part: Html | readonly Part[]): part is readonly Part[] => Array.isArray(part);
