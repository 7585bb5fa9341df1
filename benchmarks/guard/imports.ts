import { type Act, AlarmReader, landAlarms, type OutsideAlarm } from "@ale/guard";
import { NO_NETWORK } from "../../packages/guard/src/outside/act.ts";
import { type BenchContext, measured, median, type Result } from "../benchmark.ts";

/**
 * Alarms of four firewalls, each with a clock of its own, one of which is set in the middle, against what many episodes did in a day; a
 * quarter of the alarms are of somebody else, who goes to the same places at the same time. How long it takes from the text to the landings, and whether they are right.
 */
const ACTS = 50;
const DAY_MS = 86_400_000;
const T0 = Date.UTC(2026, 2, 1);
const SKEWS_MS = [0, 3_700, -41_000, 433_000];

export async function imports(context: BenchContext): Promise<Result[]> {
  const episodes = context.quick ? 100 : 1_000;
  const count = context.quick ? 10_000 : 100_000;
  const acts = Array.from({ length: episodes }, (_, n) => actsOf(n, episodes)).flat();
  const text = Buffer.from(Array.from({ length: count }, (_, n) => `${eve(n, acts, count)}\n`).join(""));
  const [reads, lands, tenths]: [number[], number[], number[]] = [[], [], []];
  let right = 0;
  let wrong = 0;
  for (let round = 0; round < (context.quick ? 2 : 5); round++) {
    context.signal.throwIfAborted();
    let alarms: readonly OutsideAlarm[] = [];
    reads.push(timed(() => (alarms = read(text))));
    tenths.push(timed(() => landAlarms(alarms.slice(0, count / 10), acts)));
    let landed = landAlarms<Act>([], []);
    lands.push(timed(() => (landed = landAlarms(alarms, acts))));
    const matched = landed.landings.flatMap(({ alarm, candidates: [best] }, n) =>
      best !== undefined && best.confidence > 2 / 3 ? [{ n, alarm, best }] : [],
    );
    right = matched.filter(({ n, best }) => isOurs(n) && best.act === actOf(n, acts, count)).length;
    wrong = matched.length - right;
  }
  const ours = Array.from({ length: count }, (_, n) => n).filter(isOurs).length;
  const name = `${count} alarms against ${acts.length} acts of ${episodes} episodes`;
  return [
    measured(`${name}: read`, median(reads), "s"),
    measured(`${name}: landed`, median(lands), "s", { atMost: 30 }),
    // Ten times the alarms cost ten times as much, not a hundred times.
    measured("landed: of a tenth of the alarms", median(lands) / median(tenths), "", { atMost: 20 }),
    measured("alarms of recorded acts that were matched to the right one", (100 * right) / ours, "%"),
    measured("matched to a wrong one, of all alarms", (100 * wrong) / count, "%", { atMost: 2 }),
  ];
}

function timed(work: () => unknown): number {
  const begun = performance.now();
  work();
  return (performance.now() - begun) / 1_000;
}

/** One that always gives the same, so that runs compare. */
const noise = (n: number): number => (Math.imul(n ^ 0x9e3779b9, 0x85ebca6b) >>> 0) / 2 ** 32;

function actsOf(episode: number, episodes: number): Act[] {
  const begin = T0 + (episode * DAY_MS) / episodes;
  return Array.from({ length: ACTS }, (_, i): Act => {
    const n = episode * ACTS + i;
    const local = i % 5 === 4;
    return {
      episode: `ep_${episode}`,
      chunk: i,
      callId: `call_${i}`,
      sandbox: `sb_${episode}`,
      at: begin + i * 6_000 + noise(n) * 5_000,
      durationMs: i % 7 === 0 ? 30_000 : 0,
      ...NO_NETWORK,
      ...(local
        ? {}
        : {
            protocol: "tcp",
            // A few places that everybody goes to, and many that few do.
            ip: i % 2 === 0 ? `203.0.113.${n % 4}` : `198.51.${n % 100}.${n % 250}`,
            port: i % 3 === 0 ? 22 : 443,
            // Known of every other connection.
            fromPort: i % 4 < 2 ? 20_000 + (n % 40_000) : null,
          }),
      pid: 1_000 + n,
      program: "/usr/bin/curl",
      command: `curl https://host-${n % 100}.example`,
      path: null,
    };
  });
}

const isOurs = (n: number): boolean => n % 4 !== 3;
/** The act that an alarm is of, over the network; alarms come about in the order of time. */
function actOf(n: number, acts: readonly Act[], count: number): Act {
  const place = Math.floor((n / count) * (acts.length - 20) + noise(n * 2 + 1) * 20);
  return acts[place % 5 === 4 ? place - 1 : place]!;
}

function eve(n: number, acts: readonly Act[], count: number): string {
  const sensor = n % 4 === 3 ? (n >> 2) % 4 : n % 4;
  const skew = sensor === 3 && n > count / 2 ? 0 : SKEWS_MS[sensor]!;
  const act = actOf(n, acts, count);
  const at = isOurs(n) ? act.at + skew + (noise(n * 3) - 0.5) * 400 : T0 + (n / count) * DAY_MS;
  return JSON.stringify({
    timestamp: new Date(at).toISOString().replace("Z", "000+0000"),
    event_type: "alert",
    src_ip: "192.0.2.10",
    src_port: act.fromPort === null || !isOurs(n) ? 1_024 + (n % 18_000) : act.fromPort,
    dest_ip: act.ip,
    dest_port: act.port,
    proto: "TCP",
    alert: {
      action: "allowed",
      gid: 1,
      signature_id: 1,
      rev: 1,
      signature: "ET POLICY outbound",
      severity: 2,
    },
    host: `edge-${sensor}`,
  });
}

function read(text: Uint8Array): readonly OutsideAlarm[] {
  const reader = new AlarmReader("eve.json");
  for (let from = 0; from < text.length; from += 1 << 18) reader.push(text.subarray(from, from + (1 << 18)));
  return reader.end().alarms;
}
