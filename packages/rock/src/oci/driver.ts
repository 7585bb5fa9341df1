import { DurableOciDriver } from "./durable-driver.ts";
import { OciDriver } from "./oci-driver.ts";
import type { OciDriverOptions } from "./options.ts";

/**
 * Without `durable`, sandboxes end with the driver, and those of a crashed process are removed by the next driver. With it, they are kept
 * under that name until they are destroyed: whoever opens it next finds them stopped.
 */
export function openOciDriver(options: OciDriverOptions & { readonly durable: string }): DurableOciDriver;
export function openOciDriver(options?: OciDriverOptions): OciDriver;
export function openOciDriver(options: OciDriverOptions = {}): OciDriver | DurableOciDriver {
  const driver = new OciDriver(options);
  return options.durable === undefined ? driver : new DurableOciDriver(driver);
}
