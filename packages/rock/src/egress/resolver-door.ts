import { createSocket, type Socket } from "node:dgram";
import { DNS_TYPE, dnsTypeName, nameFigures, readDnsQuery, writeDnsAnswer } from "./dns-message.ts";
import { decideName } from "./egress-policy.ts";
import { type Guest, type OnRecord, processOf, recordOf } from "./guest.ts";
import {
  AF_INET,
  bindSocket,
  inetAddress,
  type NetNamespace,
  openSocket,
  SOCK_DGRAM,
  within,
} from "./native-net.ts";

/** The only resolver that a sandbox reaches: allowed names have an address of ours, others do not exist. No query ever leaves. */

const DNS_PORT = 53;
/** Short, so that a name whose address was given to another one is asked for again. */
const TTL_SECONDS = 30;
/** Records of one guest in a second; what goes beyond is counted and told with the next. */
const RECORDS_PER_SECOND = 100;

export interface ResolverDoor extends Disposable {
  readonly port: number;
}

interface Pace {
  second: number;
  records: number;
  suppressed: number;
}

export async function openResolverDoor(
  namespace: NetNamespace,
  guestOf: (address: string) => Guest | undefined,
  onRecord: OnRecord,
): Promise<ResolverDoor> {
  const fd = within(namespace, () => {
    const made = openSocket(AF_INET, SOCK_DGRAM, 0);
    bindSocket(made, inetAddress(0, 0));
    return made;
  });
  const socket = createSocket("udp4");
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ fd }, resolve);
  });
  socket.on("error", () => {});
  const paces = new WeakMap<Guest, Pace>();
  socket.on("message", (message, from) => {
    const guest = guestOf(from.address);
    if (guest !== undefined) answer(socket, message, from, guest);
  });
  socket.unref();
  return { port: socket.address().port, [Symbol.dispose]: () => void socket.close() };

  function answer(
    door: Socket,
    message: Buffer,
    from: { port: number; address: string },
    guest: Guest,
  ): void {
    const query = readDnsQuery(message);
    if (query === undefined) {
      tellNoQuestion(guest, from.port);
      return;
    }
    const { allowed } = decideName(guest.policy, query.name);
    const addresses = allowed && query.type === DNS_TYPE.A ? [guest.names.addressOf(query.name)] : [];
    const reply = allowed
      ? ({ type: "addresses", addresses, ttlSeconds: TTL_SECONDS } as const)
      : ({ type: "no-such-name" } as const);
    door.send(writeDnsAnswer(message, query, reply), from.port, from.address, () => {});
    const suppressed = paced(guest);
    if (suppressed === undefined) return;
    const process = allowed ? undefined : processOf(guest, "udp", from.port);
    onRecord(
      recordOf(guest, "dns.query", "dns", {
        dns: {
          name: query.name.slice(0, 253),
          type: dnsTypeName(query.type),
          allowed,
          ...nameFigures(query.name),
        },
        ...(process === undefined ? {} : { process }),
        ...(suppressed === 0 ? {} : { suppressed }),
      }),
    );
  }

  /** Something else that was sent to where resolvers listen: a tunnel that does not pretend to be DNS, or a broken client. */
  function tellNoQuestion(guest: Guest, sourcePort: number): void {
    const suppressed = paced(guest);
    if (suppressed === undefined) return;
    const process = processOf(guest, "udp", sourcePort);
    onRecord(
      recordOf(guest, "net.deny", "dns", {
        net: { protocol: "udp", port: DNS_PORT, sourcePort, rule: "protocol" },
        ...(process === undefined ? {} : { process }),
        ...(suppressed === 0 ? {} : { suppressed }),
      }),
    );
  }

  /** Records that were left out since the last; undefined where this one is left out too. */
  function paced(guest: Guest): number | undefined {
    const second = Math.floor(performance.now() / 1000);
    const pace = paces.get(guest) ?? { second, records: 0, suppressed: 0 };
    paces.set(guest, pace);
    if (pace.second !== second) [pace.second, pace.records] = [second, 0];
    if (++pace.records > RECORDS_PER_SECOND) {
      pace.suppressed++;
      return undefined;
    }
    const { suppressed } = pace;
    pace.suppressed = 0;
    return suppressed;
  }
}
