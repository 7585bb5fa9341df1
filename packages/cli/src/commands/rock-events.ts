import type { Telemetry } from "@ale/core";
import type { RuleEngine } from "@ale/guard";
import { defineUsage, parseArguments, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withRock } from "../rock/client.ts";
import { recordLine } from "../rock/record-line.ts";

const usage = defineUsage({
  positionals: "ID",
  options: {
    follow: { type: "boolean", short: "f", help: "go on until Ctrl-C, or until the sandbox has ended" },
    seconds: { type: "string", value: "N", help: "for so long (default 5; with --follow: no end)" },
    rules: {
      type: "string",
      value: "PATH",
      multiple: true,
      help: "say which rules it sets off: of a YAML file or folder, and those that ship",
    },
    samples: { type: "boolean", help: "also what it uses, once a second" },
  },
  notes: `
What happens in and around a sandbox from now on: programs that start, connections, names, refused system calls, changed files, limits. Nothing is
collected while nobody watches, so that there is nothing to show of the past. With --json each record is a line of its own, and the last line says
how many there were, also after Ctrl-C, which is no failure: the exit code is 0. Which sources this machine has: ale doctor. With --rules a rule that
is set off is named below the record that did it ({"alert": …} with --json), to try rules of your own; nothing is done about it.`,
});

export const rockEvents: Action = {
  usage,
  endsBySignal: true,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const seconds =
      wholeNumber("--seconds", values.seconds, { min: 1, max: 86_400 }) ?? (values.follow ? undefined : 5);
    const judge = values.rules === undefined ? undefined : await judgeOf(values.rules);
    return withRock(io, async (client) => {
      const box = await client.driver.attach(positionals[0]!);
      let records = 0;
      let alerts = 0;
      const tell = (record: Telemetry): void => {
        if (record.kind === "resource.sample" && !values.samples) return;
        records++;
        io.row(record);
        if (!io.json) io.print(recordLine(record, io.paint));
        for (const { rule, facts } of judge?.feed(record) ?? []) {
          if (facts.severity === null) continue;
          alerts++;
          io.row({ alert: { rule: rule.name, at: record.at, ...facts } });
          if (!io.json)
            io.print(
              io.paint("red", `    ${rule.name}: ${rule.title} (${facts.severity}, ${facts.response})`),
            );
        }
      };
      using _listening = box.onTelemetry(tell);
      // Throws where the server refuses.
      await box.drainTelemetry();
      io.note(`watching ${box.id}${seconds === undefined ? "; Ctrl-C ends it" : ` for ${seconds} s`}`);
      // Nothing else keeps this process: a stream that is only listened to does not, nor does a signal.
      const awake = setInterval(() => {}, 60_000);
      const ends = [signal, ...(seconds === undefined ? [] : [AbortSignal.timeout(seconds * 1_000)])];
      await Promise.race([box.ended, ...ends.map(aborted)]).finally(() => clearInterval(awake));
      if (box.endReason === undefined) await box.drainTelemetry();
      io.result({ records, ...(judge === undefined ? {} : { alerts }), endReason: box.endReason ?? null });
      return EXIT.ok;
    });
  },
};

async function judgeOf(packs: readonly string[]): Promise<RuleEngine<Telemetry>> {
  // Most who watch judge nothing, and wait for no rules.
  const { compileRules, readRules, SHIPPED_RULES } = await import("@ale/guard");
  return compileRules<Telemetry>(readRules([SHIPPED_RULES, ...packs]));
}

/** Ctrl-C is how one stops watching, no failure. */
const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
