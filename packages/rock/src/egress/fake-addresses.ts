/**
 * Of one sandbox: one address for each allowed name, in 198.18.0.0/16 (RFC 2544: routed nowhere). Whoever connects to it means the name, and the real
 * address is looked up only then, by us. A name keeps its address while it is in use; the one unused longest makes room.
 */

const FIRST = 0xc6120001;
const MOST = 0xfffd;

export class FakeAddresses {
  readonly #byName = new Map<string, number>();
  readonly #byAddress = new Map<number, string>();
  #next = FIRST;
  readonly #most: number;

  /** `most`: names that have an address at a time. */
  constructor(most: number = MOST) {
    this.#most = Math.min(most, MOST);
  }

  addressOf(name: string): number {
    const known = this.#byName.get(name);
    if (known !== undefined) {
      this.#byName.delete(name);
      this.#byName.set(name, known);
      return known;
    }
    const address = this.#byName.size < this.#most ? this.#next++ : this.#oldest();
    this.#byName.set(name, address);
    this.#byAddress.set(address, name);
    return address;
  }

  nameOf(address: number): string | undefined {
    return this.#byAddress.get(address);
  }

  #oldest(): number {
    const [name, address] = this.#byName.entries().next().value!;
    this.#byName.delete(name);
    return address;
  }
}

/** Whether an address is one of those, in use or not. */
export const isFake = (address: number): boolean => address >>> 16 === FIRST >>> 16;
