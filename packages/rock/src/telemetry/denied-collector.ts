import type { DeniedCall } from "../oci/denied-calls.ts";
import type { CollectorKind } from "./collector.ts";

/** System calls that filters refused, as the kernel's audit tells of them, or its log. */

export interface DeniedSource {
  listen(listener: (call: DeniedCall) => void): Disposable;
  /** Resolves when what the kernel has refused until now was told. */
  settled(): Promise<void>;
}

export function deniedCollector(denied: DeniedSource): CollectorKind {
  return {
    sources: ["audit", "kernel-log"],
    start: (tell) => {
      const listening = denied.listen(
        ({ at, sandbox, pid, uid, executable, command, call, source, lost }) => {
          tell({
            at,
            kind: "syscall.denied",
            source,
            sandbox,
            process: { pid, uid, exe: executable, command },
            syscall: { name: call },
            ...(lost === 0 ? {} : { suppressed: lost }),
          });
        },
      );
      return {
        // The audit is the whole host's: it is read once for all.
        follow: () => {},
        forget: () => {},
        drain: () => denied.settled(),
        [Symbol.dispose]: () => listening[Symbol.dispose](),
      };
    },
  };
}
