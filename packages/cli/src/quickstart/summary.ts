import { FAMILIES, wilson } from "@ale/bench";
import type { EvaluationResult, PassFigures, RoundMetrics, RunState } from "@ale/roll";
import type {
  CurvePoint,
  ExampleEpisode,
  FamilyRow,
  QuickstartReport,
  SafetyArm,
  SafetyFigures,
} from "../report/data.ts";

/** From the states of a quickstart's runs to its report and its one line for machines. Pure. */
export interface QuickstartFacts {
  readonly name: string;
  readonly smoke: boolean;
  readonly startedAt: string;
  readonly seed: number;
  readonly warm: RunState | null;
  readonly main: RunState;
  readonly plain: RunState;
  readonly safe: RunState;
  /** Seconds of installing, by step; from scripts/setup.sh. */
  readonly setup: Readonly<Record<string, number>>;
  /** Wall seconds of the loop itself, by part, in order. */
  readonly parts: readonly { readonly name: string; readonly seconds: number }[];
  readonly machine: Readonly<Record<string, string>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly provenance: Readonly<Record<string, string>>;
  readonly examples: readonly ExampleEpisode[];
}

export function reportOf(facts: QuickstartFacts): QuickstartReport {
  const before = evaluation(facts.main, "before");
  const after = evaluation(facts.main, "after");
  const phases = phasesOf(facts);
  return {
    schema: "ale/report@1",
    title: facts.smoke ? "ALE smoke test: these figures mean nothing" : "ALE quickstart",
    run: facts.name,
    startedAt: facts.startedAt,
    seed: facts.seed,
    machine: { ...facts.machine },
    versions: { ...facts.versions },
    headline: {
      passBefore: rate(before.overall),
      passBeforeInterval: interval(before.overall),
      passAfter: rate(after.overall),
      passAfterInterval: interval(after.overall),
      heldoutTasks: after.overall.n,
      episodes: episodesOf(facts),
      wallSeconds: wallSeconds(phases),
    },
    curve: facts.main.rounds.map(curvePoint),
    families: familyRows(before, after),
    safety: { plain: safetyArm(facts.plain), safe: safetyArm(facts.safe) },
    phases,
    throughput: throughputOf([...facts.main.rounds, ...facts.plain.rounds, ...facts.safe.rounds]),
    examples: [...facts.examples],
    provenance: { ...facts.provenance },
  };
}

/** The last line of `./quickstart --json`. */
export function jsonOf(report: QuickstartReport, path: string): Record<string, unknown> {
  const { headline, safety } = report;
  return {
    ok: true,
    run: report.run,
    seed: report.seed,
    passBefore: headline.passBefore,
    passBeforeInterval: headline.passBeforeInterval,
    passAfter: headline.passAfter,
    passAfterInterval: headline.passAfterInterval,
    heldoutTasks: headline.heldoutTasks,
    violationBefore: safety?.plain.before.violation,
    violationPlain: safety?.plain.after.violation,
    violationSafe: safety?.safe.after.violation,
    cleanPassBefore: safety?.plain.before.cleanPass,
    cleanPassPlain: safety?.plain.after.cleanPass,
    cleanPassSafe: safety?.safe.after.cleanPass,
    episodes: headline.episodes,
    wallSeconds: headline.wallSeconds,
    phases: Object.fromEntries(report.phases.map(({ name, seconds }) => [name, seconds])),
    throughput: report.throughput,
    report: path,
  };
}

const rate = ({ passes, n }: PassFigures): number => (n === 0 ? 0 : passes / n);

function interval({ passes, n }: PassFigures): [number, number] {
  const { low, high } = wilson({ successes: passes, trials: n });
  return [low, high];
}

function evaluation(state: RunState, label: string): EvaluationResult {
  const found = state.evaluations.find((result) => result.label === label);
  if (found === undefined) throw new Error(`the run ${state.run} has no evaluation "${label}"`);
  return found;
}

function curvePoint(metrics: RoundMetrics): CurvePoint {
  const { figures } = metrics;
  const [lo, hi] = interval(figures);
  return {
    round: metrics.round,
    onPolicyPass: rate(figures),
    lo,
    hi,
    episodes: figures.n,
    meanReward: rate(figures),
    gradNorm: metrics.gradNorm,
    violationRate: figures.violations / Math.max(1, figures.n),
    cleanPass: figures.cleanPasses / Math.max(1, figures.n),
    droppedGroups: metrics.uniformGroups,
  };
}

function familyRows(before: EvaluationResult, after: EvaluationResult): FamilyRow[] {
  return Object.keys(after.families).map((family) => ({
    family,
    domain: FAMILIES.get(family)?.domain ?? "",
    before: share(before.families[family]),
    after: share(after.families[family]),
  }));
}

const share = (figures: PassFigures = { n: 0, passes: 0, violations: 0, cleanPasses: 0 }) => ({
  n: figures.n,
  pass: rate(figures),
});

const safetyFigures = (figures: PassFigures): SafetyFigures => ({
  n: figures.n,
  pass: rate(figures),
  violation: figures.violations / Math.max(1, figures.n),
  cleanPass: figures.cleanPasses / Math.max(1, figures.n),
});

function safetyArm(state: RunState): SafetyArm {
  return {
    before: safetyFigures(evaluation(state, "before").overall),
    after: safetyFigures(evaluation(state, "after").overall),
    curve: state.rounds.map(({ round, figures }) => {
      const { pass, violation, cleanPass } = safetyFigures(figures);
      return { round, pass, violation, cleanPass };
    }),
  };
}

const runsOf = (facts: QuickstartFacts): RunState[] => [
  ...(facts.warm === null ? [] : [facts.warm]),
  facts.main,
  facts.plain,
  facts.safe,
];

const episodesOf = (facts: QuickstartFacts): number =>
  runsOf(facts).reduce(
    (sum, state) =>
      sum +
      state.sft.reduce((inner, result) => inner + result.demonstrations.episodes, 0) +
      state.rounds.reduce((inner, round) => inner + round.figures.n, 0) +
      state.evaluations.reduce((inner, result) => inner + result.overall.n, 0),
    0,
  );

/** Installing first, then the parts of the loop. */
const phasesOf = (facts: QuickstartFacts): { name: string; seconds: number }[] => [
  ...Object.entries(facts.setup).map(([name, seconds]) => ({
    name: `setup ${name}`,
    seconds: rounded(seconds),
  })),
  ...facts.parts.map(({ name, seconds }) => ({ name, seconds: rounded(seconds) })),
];

/** Steps of installing run side by side after the system packages: the longest chain counts. */
function wallSeconds(phases: readonly { readonly name: string; readonly seconds: number }[]): number {
  const of = (name: string): number => phases.find((phase) => phase.name === `setup ${name}`)?.seconds ?? 0;
  const setup = of("apt") + Math.max(of("engine"), of("npm") + of("image"));
  const loop = phases
    .filter((phase) => !phase.name.startsWith("setup "))
    .reduce((sum, phase) => sum + phase.seconds, 0);
  return rounded(setup + loop);
}

function throughputOf(rounds: readonly RoundMetrics[]): QuickstartReport["throughput"] {
  const sum = (value: (round: RoundMetrics) => number): number =>
    rounds.reduce((total, round) => total + value(round), 0);
  const rollout = sum((round) => round.seconds.rollout);
  const training = sum((round) => round.seconds.backward);
  const per = (amount: number, seconds: number): number => (seconds > 0 ? rounded(amount / seconds) : 0);
  return {
    sampledTokensPerSecond: per(
      sum((round) => round.sampledTokens),
      rollout,
    ),
    episodesPerSecond: per(
      sum((round) => round.figures.n),
      rollout,
    ),
    trainTokensPerSecond: per(
      sum((round) => round.trainedTokens),
      training,
    ),
  };
}

const rounded = (value: number): number => Math.round(value * 10) / 10;
