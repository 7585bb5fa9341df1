import { AleError } from "@ale/core";
import { MinuteWindow } from "./quota.ts";

/** Callers without a valid token, by address: whoever guesses is soon told to wait, which also keeps the audit small. */

const REFUSALS_PER_MINUTE = 300;
const ADDRESSES = 1_000;

export const unauthorized = (): AleError =>
  new AleError("unauthorized", "a valid token is needed", {
    next: "send the header Authorization: Bearer TOKEN",
  });

export class Strangers {
  readonly #windows = new Map<string, MinuteWindow>();

  /** The error to answer with: `unauthorized`, or `too-many-requests` after too many of them in a minute. */
  refuse(address: string, nowMs: number = Date.now()): AleError {
    const window = this.#windows.get(address) ?? new MinuteWindow();
    // The address that was quiet for longest is forgotten first.
    this.#windows.delete(address);
    this.#windows.set(address, window);
    if (this.#windows.size > ADDRESSES) this.#windows.delete(this.#windows.keys().next().value!);
    if (window.take(1, REFUSALS_PER_MINUTE, nowMs)) return unauthorized();
    return new AleError("too-many-requests", "too many calls without a valid token", {
      next: `try again in ${Math.ceil(window.waitMs(nowMs) / 1_000)} s, with a token`,
    });
  }
}
