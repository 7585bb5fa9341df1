import type { TelemetrySource } from "@ale/core";
import type { CollectorKind, Tell } from "./collector.ts";

/** What sandboxes do and try on the network, as their gateway sees it. */

export interface NetworkSource {
  listen(listener: Tell): Disposable;
  /** Resolves when what has reached the gateway until now was told. */
  settled(): Promise<void>;
}

export const NETWORK_SOURCES: readonly TelemetrySource[] = ["nflog", "sink", "dns", "proxy"];

export function networkCollector(network: NetworkSource): CollectorKind {
  return {
    sources: NETWORK_SOURCES,
    start: (tell) => {
      const listening = network.listen(tell);
      return {
        // The gateway is all sandboxes' and knows whose each cable is.
        follow: () => {},
        forget: () => {},
        drain: () => network.settled(),
        [Symbol.dispose]: () => listening[Symbol.dispose](),
      };
    },
  };
}
