import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { AleError, type NetworkPolicy, parseIp } from "@ale/core";
import { SystemCallError } from "../host/native.ts";
import { findTool } from "../host/tools.ts";
import { type Account, newAccount } from "./account.ts";
import { FakeAddresses } from "./fake-addresses.ts";
import { type Guest, type OnRecord, processOf, recordOf } from "./guest.ts";
import { ipText, type NetNamespace, namespaceOf, newNamespace, within } from "./native-net.ts";
import { interfaceIndex, Netlink } from "./netlink.ts";
import { type LoggedPacket, PacketLog } from "./packet-log.ts";
import { openResolverDoor, type ResolverDoor } from "./resolver-door.ts";
import { CABLE_PREFIX, LOG_GROUP, ruleset } from "./ruleset.ts";
import { TcpDoor } from "./tcp-door.ts";
import { HOST_UPSTREAM, type ModelGateway, type Upstream } from "./upstream.ts";

/**
 * The gateway of one driver: a network namespace in which the cables of its sandboxes end, with no way out. What leaves goes through this
 * process, which is the only thing that can dial; with the process the namespace goes, and the cables with it, so that nothing is
 * let out while nobody looks, and nothing is left behind.
 */

/** Two addresses a cable, the gateway's even, the sandbox's odd. RFC 2544 space, routed nowhere. */
const FIRST_CABLE = 0xc6130000;
export const MOST_CABLES = 0x8000;
export const SANDBOX_NETWORK = "198.19.0.0/16";

export interface GatewayOptions {
  readonly onRecord: OnRecord;
  readonly upstream?: Upstream | undefined;
  readonly modelGateway?: ModelGateway | undefined;
}

export interface Attachment {
  /** The sandbox's own address. */
  readonly address: string;
  /** Its resolver and its only neighbour. */
  readonly gateway: string;
  /** Replaces the policy, from the next connection on; connections that are open end when `endOpen`. */
  setPolicy(policy: NetworkPolicy, options?: { readonly endOpen?: boolean }): void;
  /** Forgets the sandbox. The cable goes with its namespace. */
  detach(): void;
  /** The same, and resolves when the cable is gone. */
  unplug(): Promise<void>;
}

export interface AttachRequest {
  readonly sandbox: string;
  /** A process of the sandbox, on the host. */
  readonly initPid: number;
  /** All its processes on the host, now; `initPid` is one of them. */
  readonly pids: () => readonly number[];
  readonly policy: NetworkPolicy;
  /** What the sandbox has used already. Default: nothing. */
  readonly account?: Account;
  /** Addresses that its names have already: programs remember them. Default: none. */
  readonly names?: FakeAddresses;
}

export class EgressGateway implements Disposable {
  readonly #namespace: NetNamespace;
  readonly #netlink: Netlink;
  readonly #guests = new Map<string, Guest>();
  readonly #byInterface = new Map<number, Guest>();
  readonly #onRecord: OnRecord;
  readonly #free: number[] = [];
  #cables = 0;
  #doors: { tcp: TcpDoor; dns: ResolverDoor; packets: PacketLog } | undefined;

  private constructor(namespace: NetNamespace, onRecord: OnRecord) {
    this.#namespace = namespace;
    this.#netlink = new Netlink(namespace);
    this.#onRecord = onRecord;
  }

  /** Throws an AleError where the host lacks nftables or the right to use it. Whatever fails, nothing is open and nothing is left. */
  static async open(options: GatewayOptions): Promise<EgressGateway> {
    const nft = findTool("nft");
    if (nft === undefined)
      throw new AleError("tool-missing", "nft is not installed, so that no network policy can be enforced", {
        next: "apt install nftables",
      });
    const namespace = newNamespace();
    const gateway = new EgressGateway(namespace, options.onRecord);
    try {
      await gateway.#openDoors(nft, options);
      return gateway;
    } catch (error) {
      gateway[Symbol.dispose]();
      throw error;
    }
  }

  async #openDoors(nft: string, options: GatewayOptions): Promise<void> {
    const { upstream = HOST_UPSTREAM, modelGateway } = options;
    const guestOf = (address: string): Guest | undefined => this.#guests.get(address);
    const common = { namespace: this.#namespace, guestOf, onRecord: this.#onRecord };
    const tcp = await TcpDoor.open({ ...common, upstream, modelGateway, sandboxes: [SANDBOX_NETWORK] });
    const dns = await openResolverDoor(this.#namespace, guestOf, this.#onRecord);
    const rules = ruleset({ dns: dns.port, tcp: tcp.port });
    const loaded = within(this.#namespace, () => {
      for (const [name, value] of Object.entries(SETTINGS)) set(name, value);
      return spawnSync(nft, ["-f", "-"], { input: rules, encoding: "utf8" });
    });
    if (loaded.status !== 0)
      throw new AleError(
        "egress-failed",
        `the packet filter was refused: ${loaded.stderr.trim().slice(0, 500)}`,
        {
          next: "load the modules nf_tables, nft_redir and nfnetlink_log, and run as root",
        },
      );
    const packets = new PacketLog(this.#namespace, LOG_GROUP, (packet) => this.#onPacket(packet));
    this.#netlink.up(1);
    this.#doors = { tcp, dns, packets };
  }

  /** Plugs a sandbox in. Its namespace must have no interface but loopback. Throws a SystemCallError. */
  attach(request: AttachRequest): Attachment {
    // An old address rests as long as there are others: the kernel takes its time over a cable whose sandbox has ended.
    const cable = this.#cables < MOST_CABLES ? this.#cables++ : this.#free.pop();
    if (cable === undefined)
      throw new AleError("egress-full", `${MOST_CABLES} sandboxes have a network already`, {
        next: "end some of them",
      });
    try {
      return this.#plug(request, cable);
    } catch (error) {
      this.#free.unshift(cable);
      throw error;
    }
  }

  #plug(request: AttachRequest, cable: number): Attachment {
    const ours = FIRST_CABLE + 2 * cable;
    const [gateway, address] = [ipText(ours), ipText(ours + 1)];
    const name = `${CABLE_PREFIX}${cable}`;
    using theirs = namespaceOf(request.initPid);
    // After it was opened: by then the number could be another process's, on the host itself.
    if (!request.pids().includes(request.initPid))
      throw new AleError("sandbox-gone", `sandbox ${request.sandbox} has ended`, {
        next: "create a new sandbox",
      });
    this.#netlink.addCable(name, { name: "eth0", namespace: theirs });
    const index = interfaceIndex(this.#namespace, name);
    const guest: Guest = {
      ...request,
      address: ours + 1,
      interfaceIndex: index,
      account: request.account ?? newAccount(),
      names: request.names ?? new FakeAddresses(),
    };
    // Known before it can speak.
    this.#guests.set(address, guest);
    this.#byInterface.set(index, guest);
    try {
      this.#netlink.addAddress(index, ours, 31);
      this.#netlink.up(index);
      plugIn(theirs, ours);
    } catch (error) {
      this.#guests.delete(address);
      this.#byInterface.delete(index);
      this.#removeIfThere(index);
      throw error;
    }
    return {
      address,
      gateway,
      setPolicy: (policy, options) => this.#setPolicy(guest, policy, options?.endOpen ?? false),
      detach: () => this.#detach(guest, address, cable),
      unplug: async () => {
        this.#detach(guest, address, cable);
        using netlink = new Netlink(this.#namespace);
        await netlink.removeAside(index);
      },
    };
  }

  /** A cable goes with either of its ends. */
  #removeIfThere(index: number): void {
    try {
      this.#netlink.remove(index);
    } catch (error) {
      if (!(error instanceof SystemCallError) || error.code !== "ENODEV") throw error;
    }
  }

  #setPolicy(guest: Guest, policy: NetworkPolicy, endOpen: boolean): void {
    guest.policy = policy;
    if (endOpen) this.#doors?.tcp.endConnections(guest);
  }

  #detach(guest: Guest, address: string, cable: number): void {
    this.#doors?.tcp.endConnections(guest);
    this.#forget(guest, address, cable);
  }

  #forget(guest: Guest, address: string, cable: number): void {
    if (!this.#guests.delete(address)) return;
    this.#byInterface.delete(guest.interfaceIndex);
    this.#free.unshift(cable);
  }

  /** Resolves when what has come in until now was told. */
  async settled(): Promise<void> {
    // A turn for what waits at the doors.
    await setImmediate();
    this.#doors?.packets.drain();
  }

  #onPacket(packet: LoggedPacket): void {
    const guest = this.#byInterface.get(packet.interfaceIndex);
    if (guest === undefined) return;
    const { protocol, to, fromPort, toPort, prefix } = packet;
    const process =
      protocol === "udp" && fromPort !== undefined ? processOf(guest, "udp", fromPort) : undefined;
    const ip = to === undefined ? undefined : ipText(to);
    this.#onRecord(
      recordOf(guest, "net.deny", "nflog", {
        net: {
          protocol,
          rule: prefix === "scan" ? "scan" : "protocol",
          ...(ip === undefined || parseIp(ip) === undefined ? {} : { ip }),
          ...(toPort === undefined ? {} : { port: toPort }),
          ...(fromPort === undefined ? {} : { sourcePort: fromPort }),
        },
        ...(process === undefined ? {} : { process }),
      }),
    );
  }

  [Symbol.dispose](): void {
    this.#doors?.packets[Symbol.dispose]();
    this.#doors?.tcp[Symbol.dispose]();
    this.#doors?.dns[Symbol.dispose]();
    this.#netlink[Symbol.dispose]();
    this.#namespace[Symbol.dispose]();
  }
}

/** Nobody speaks under a foreign address, and IPv6 does not exist. */
const SETTINGS: Readonly<Record<string, string>> = {
  "ipv4/conf/all/rp_filter": "1",
  "ipv4/conf/default/rp_filter": "1",
  "ipv4/conf/all/accept_redirects": "0",
  "ipv4/conf/all/send_redirects": "0",
  "ipv4/ip_forward": "0",
  "ipv6/conf/all/disable_ipv6": "1",
  "ipv6/conf/default/disable_ipv6": "1",
};

/** A kernel without IPv6 has nothing to switch off there. */
function set(name: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/net/${name}`, value);
  } catch (error) {
    if (!name.startsWith("ipv6/") || (error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** The sandbox's end of its cable. */
function plugIn(namespace: NetNamespace, gateway: number): void {
  within(namespace, () => set("ipv6/conf/eth0/disable_ipv6", "1"));
  using netlink = new Netlink(namespace);
  const index = interfaceIndex(namespace, "eth0");
  netlink.addAddress(index, gateway + 1, 31);
  netlink.up(index);
  netlink.addDefaultRoute(gateway);
}
