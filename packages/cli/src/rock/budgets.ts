import { BUDGET_ITEMS, type BudgetItem, type BudgetPart } from "@ale/core";
import { BUDGET_NAMES, budgetLimitsOf, type NetworkView, parseByteSize } from "@ale/rock/client";
import { usageError } from "../args.ts";
import { printable } from "../printable.ts";
import { table } from "../table.ts";
import { bytes } from "./format.ts";

/** Network budgets on a command line: `bytes-up=10m,requests=500`, and what is left of them as a table. */

const NAMES = Object.entries(BUDGET_NAMES) as readonly [BudgetItem, string][];
const EXAMPLE = "--budget bytes-up=10m,bytes-down=1g,connections=100,requests=500";

/** Undefined where the option is not given. Throws `usage` under its name. */
export function budgetOption(option: string, texts: readonly string[] | undefined): BudgetPart | undefined {
  if (texts === undefined) return undefined;
  const amounts: { [Item in BudgetItem]?: number } = {};
  for (const text of texts.flatMap((one) => one.split(","))) {
    const [name = "", value = ""] = text.split(/=(.*)/s);
    const item = NAMES.find(([, written]) => written === name)?.[0];
    if (item === undefined)
      throw usageError(
        `${option}: ${JSON.stringify(text)} names no budget`,
        `one of ${NAMES.map(([, written]) => `${written}=…`).join(", ")}, such as ${EXAMPLE}`,
      );
    if (amounts[item] !== undefined) throw usageError(`${option}: ${name} is given twice`, "leave one out");
    amounts[item] = amountOf(option, text, value, item.startsWith("bytes"));
  }
  return amounts;
}

function amountOf(option: string, text: string, value: string, isSize: boolean): number {
  const amount = isSize ? parseByteSize(value) : /^\d+$/.test(value) ? Number(value) : undefined;
  if (amount !== undefined && amount >= 1 && Number.isSafeInteger(amount)) return amount;
  const what = isSize ? "a size above 0, such as 512k, 10m or 1g" : "a whole number above 0";
  throw usageError(`${option}: ${JSON.stringify(text)} needs ${what}`, EXAMPLE);
}

export interface BudgetState {
  readonly limit: number;
  readonly used: number;
  readonly left: number;
}
type Budgets = Readonly<Record<BudgetItem, BudgetState>>;

/** What the sandbox and each host that it reached may have, have used and have left. Null where there is no network, or it does not run. */
export function budgetStates({
  network,
  used,
}: NetworkView): { sandbox: Budgets; hosts: Record<string, Budgets> } | null {
  if (network.mode === "none" || used === null) return null;
  const states = (of: "sandbox" | "host", spent: Record<BudgetItem, number>): Budgets => {
    const limits = budgetLimitsOf(network, of);
    const state = (item: BudgetItem): BudgetState => ({
      limit: limits[item],
      used: spent[item],
      left: Math.max(0, limits[item] - spent[item]),
    });
    return {
      bytesUp: state("bytesUp"),
      bytesDown: state("bytesDown"),
      connections: state("connections"),
      requests: state("requests"),
    };
  };
  const hosts = Object.entries(used.hosts).map(([name, spent]) => [name, states("host", spent)]);
  return { sandbox: states("sandbox", used.sandbox), hosts: Object.fromEntries(hosts) };
}

/** Hosts that are shown to people: those that used most. */
const MOST_HOSTS = 10;

/** Used of what is allowed, and what is left; a line for the sandbox and one for each host. */
export function budgetTable(view: NetworkView): string[] {
  const states = budgetStates(view);
  if (states === null) return [];
  const hosts = Object.entries(states.hosts).sort(([, a], [, b]) => shareOf(b) - shareOf(a));
  const row = (name: string, state: Budgets): string[] => [
    name,
    ...BUDGET_ITEMS.map((item) => {
      const text = item.startsWith("bytes") ? bytes : String;
      return `${text(state[item].used)} of ${text(state[item].limit)}, ${text(state[item].left)} left`;
    }),
  ];
  const titles = ["used by", ...BUDGET_ITEMS.map((item) => BUDGET_NAMES[item])];
  const shown = hosts.slice(0, MOST_HOSTS).map(([name, state]) => row(printable(name), state));
  const more = hosts.length - shown.length;
  return [
    ...table(
      titles.map((title) => ({ title })),
      [row("the sandbox", states.sandbox), ...shown],
    ),
    ...(more > 0 ? [`and ${more} more hosts: --json`] : []),
  ];
}

const shareOf = (state: Budgets): number =>
  Math.max(...BUDGET_ITEMS.map((item) => state[item].used / state[item].limit));
