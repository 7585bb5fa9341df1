import { readFileSync, writeFileSync } from "node:fs";
import { AleError, type Budgets, budgetsOf, type NetworkPolicy, type Telemetry } from "@ale/core";
import { wantsModelGateway } from "../egress/egress-policy.ts";
import { FakeAddresses } from "../egress/fake-addresses.ts";
import { type Attachment, EgressGateway } from "../egress/gateway.ts";
import { type OnRecord, policyChange } from "../egress/guest.ts";
import type { ModelGateway, Upstream } from "../egress/upstream.ts";
import { type CgroupHost, missingControllers, processesOf } from "../host/cgroup.ts";
import { isRootless } from "../host/rootless.ts";
import {
  type NetworkChangeOptions,
  type NetworkUse,
  refuseIpv6,
  refuseNetwork,
  refuseTooWide,
  withoutModelGateway,
} from "../port/network.ts";
import { NetworkAccount } from "./network-account.ts";

/**
 * The networks of a driver's sandboxes. They share one gateway, which is made when the first sandbox needs it; a sandbox of mode `none` has
 * no interface, and costs nothing here.
 */

export interface EgressOptions {
  /** The way out. Default: this host's own network. */
  readonly upstream?: Upstream | undefined;
  /** Where `http://model-gateway.ale.internal` leads, from this host. Without it the mode `gateway-only` is refused. */
  readonly modelGateway?: ModelGateway | undefined;
}

/** Modes that can be enforced here, and why not the others. */
export interface NetworkFindings {
  readonly modes: readonly NetworkPolicy["mode"][];
  readonly missing: readonly string[];
}

export const ONLY_NONE: NetworkFindings = {
  modes: ["none"],
  missing: ["sandboxes of this driver share the host's network"],
};

/** Throws an AleError where a policy cannot be enforced (`network-unsupported`) or is none (`network-too-wide`): it is never run with another one. */
export async function admitNetwork(networks: Networks | undefined, policy: NetworkPolicy): Promise<void> {
  if (networks === undefined) refuseNetwork(ONLY_NONE.modes, policy);
  else await networks.admit(policy);
}

export class Networks implements Disposable {
  readonly #options: EgressOptions;
  readonly #cgroups: CgroupHost;
  readonly #listeners = new Set<OnRecord>();
  #opening: Promise<EgressGateway> | undefined;
  #works = false;

  constructor(cgroups: CgroupHost, options: EgressOptions = {}) {
    this.#cgroups = cgroups;
    this.#options = options;
  }

  /** Tells of everything that sandboxes do or try on the network. */
  listen(listener: OnRecord): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  readonly tell = (record: Telemetry): void => {
    for (const listener of this.#listeners) listener(record);
  };

  /** Resolves when what has reached the gateway until now was told. */
  async settled(): Promise<void> {
    const gateway = await this.#opening?.catch(() => undefined);
    await gateway?.settled();
  }

  /** Finds out by opening a gateway, so that it is the truth. */
  async findings(): Promise<NetworkFindings> {
    const gateway = await this.#tryOut();
    if (gateway !== undefined) return { modes: ["none"], missing: [gateway] };
    return this.#options.modelGateway === undefined
      ? { modes: ["none", "allowlist", "open"], missing: [] }
      : { modes: ["none", "allowlist", "gateway-only", "open"], missing: [] };
  }

  /** Undefined, or why there is no gateway. */
  async #tryOut(): Promise<string | undefined> {
    if (this.#works) return undefined;
    try {
      if (this.#opening === undefined) (await this.#make())[Symbol.dispose]();
      else await this.#opening;
      this.#works = true;
      return undefined;
    } catch (error) {
      return whyNot(error);
    }
  }

  /** Throws an AleError `network-unsupported`. */
  async admit(policy: NetworkPolicy): Promise<void> {
    if (policy.mode === "none") return;
    refuseIpv6(policy);
    refuseTooWide(policy);
    if (wantsModelGateway(policy) && this.#options.modelGateway === undefined)
      throw withoutModelGateway(policy);
    try {
      await this.gateway();
    } catch (error) {
      throw unsupported(policy, whyNot(error), 'do that, or use the mode "none"', error);
    }
  }

  /** Throws where there can be none; who asks again later may have more luck. */
  gateway(): Promise<EgressGateway> {
    this.#opening ??= this.#make().catch((error) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async #make(): Promise<EgressGateway> {
    if (isRootless())
      throw new AleError("need-root", "an ordinary user's sandboxes have no network", {
        next: "run as root",
      });
    if (missingControllers(this.#cgroups).length > 0)
      throw new AleError("limits-unenforced", "without control groups nobody knows which process is whose", {
        next: "run on a host, or in a container, with a writable /sys/fs/cgroup",
      });
    return EgressGateway.open({ ...this.#options, onRecord: this.tell });
  }

  processesOf(id: string): readonly number[] {
    return processesOf(this.#cgroups, id);
  }

  /** When no sandbox is left that runs. */
  [Symbol.dispose](): void {
    this.#listeners.clear();
    void this.#opening?.then((gateway) => gateway[Symbol.dispose]()).catch(() => {});
  }
}

function unsupported(policy: NetworkPolicy, why: string, next: string, cause?: unknown): AleError {
  const what = `the network policy ${JSON.stringify(policy.mode)} cannot be enforced here: ${why}`;
  return new AleError("network-unsupported", what, { next, cause });
}

function whyNot(error: unknown): string {
  if (!(error instanceof AleError)) return error instanceof Error ? error.message : String(error);
  return error.next === undefined ? error.message : `${error.message} (${error.next})`;
}

/** One sandbox's network, through all its lives. Not for two calls at a time. */
export class SandboxNetwork {
  readonly #id: string;
  readonly #networks: Networks;
  readonly #account: NetworkAccount;
  readonly #names = new FakeAddresses();
  #policy: NetworkPolicy;
  /** The file that is bound over its /etc/resolv.conf, while it runs. */
  #resolver: string | undefined;
  #attachment: Attachment | undefined;

  /** `directory`: the sandbox's, where what it has used is to be kept. */
  constructor(id: string, networks: Networks, policy: NetworkPolicy, directory?: string) {
    this.#id = id;
    this.#account = new NetworkAccount(directory);
    this.#networks = networks;
    this.#policy = policy;
    this.#account.limits = budgetsOf(policy) ?? this.#account.limits;
  }

  /** Its PID 1 runs, and nothing else does. `resolver`: the file that is bound over its /etc/resolv.conf. Throws an AleError. */
  async begin(resolver: string): Promise<void> {
    this.#resolver = resolver;
    if (this.#policy.mode !== "none") await this.#plugIn(resolver, this.#policy);
  }

  /** From the next connection on; those that are open end with `endOpen`, and when there is no network any more. Throws an AleError. */
  async change(
    policy: NetworkPolicy,
    { endOpen = false, resetBudgets = false }: NetworkChangeOptions,
  ): Promise<void> {
    await this.#networks.admit(policy);
    const resolver = this.#resolver;
    if (policy.mode === "none") await this.#unplug();
    else if (this.#attachment !== undefined) this.#attachment.setPolicy(policy, { endOpen });
    else if (resolver !== undefined) await this.#plugIn(resolver, policy);
    const same = policy.mode === "none" && this.#policy.mode === "none";
    this.#policy = policy;
    this.#account.limits = budgetsOf(policy) ?? this.#account.limits;
    if (resetBudgets) this.#account.reset();
    if (!same || resetBudgets) this.#networks.tell(policyChange(this.#id, policy, resetBudgets));
  }

  /** Those that its policy has, or the last one that had any. */
  get budgets(): Budgets | undefined {
    return this.#account.limits;
  }

  get use(): NetworkUse {
    const { used, byHost } = this.#account.account;
    return { sandbox: { ...used }, hosts: Object.fromEntries(byHost) };
  }

  /** Its processes are gone, and its interface goes with them. */
  end(): void {
    this.#attachment?.detach();
    this.#attachment = undefined;
    this.#resolver = undefined;
    this.#account.end();
  }

  async #plugIn(resolver: string, policy: NetworkPolicy): Promise<void> {
    await this.#networks.admit(policy);
    const gateway = await this.#networks.gateway();
    const pids = (): readonly number[] => this.#networks.processesOf(this.#id);
    const attachment = gateway.attach({
      sandbox: this.#id,
      initPid: initOf(this.#id, pids()),
      pids,
      policy,
      account: this.#account.account,
      names: this.#names,
    });
    this.#account.begin();
    this.#attachment = attachment;
    writeFileSync(resolver, `nameserver ${attachment.gateway}\n`);
  }

  async #unplug(): Promise<void> {
    const attachment = this.#attachment;
    this.#attachment = undefined;
    if (this.#resolver !== undefined) writeFileSync(this.#resolver, "");
    await attachment?.unplug();
  }
}

/** PID 1 among the processes of a sandbox: the one that is the first in its own namespace. */
function initOf(sandbox: string, pids: readonly number[]): number {
  const init = pids.find((pid) => /^NSpid:.*\t1$/m.test(statusOf(pid)));
  if (init === undefined)
    throw new AleError("sandbox-gone", `sandbox ${sandbox} has ended`, { next: "create a new sandbox" });
  return init;
}

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return "";
  }
}
