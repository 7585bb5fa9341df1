import { AleError } from "@ale/core";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";
import type { Problem } from "../wire/problem.ts";

/** What a route threw, as an AleError, with the fields that were wrong where the request was not valid. */
export function errorOf(error: unknown): { readonly error: AleError; readonly issues?: Problem["issues"] } {
  if (error instanceof AleError) return { error };
  if (hasZodFastifySchemaValidationErrors(error)) {
    const where = error.validationContext ?? "request";
    const issues = error.validation.map(({ instancePath, message }) => ({
      path: `${where}${instancePath === "/" ? "" : instancePath}`,
      message: message ?? "is not valid",
    }));
    const text = issues.map(({ path, message }) => `${path}: ${message}`).join("; ");
    return { error: new AleError("request-invalid", text.slice(0, 2_000)), issues };
  }
  const { code, message, statusCode } = error as Error & { code?: string; statusCode?: number };
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE")
    return {
      error: new AleError("body-too-large", "the body is larger than the server reads into memory", {
        next: "send files as streams: PUT …/files/content, or a tar by PUT …/files/archive",
      }),
    };
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE")
    return {
      error: new AleError("request-invalid", "the body's Content-Type is not one that this route reads", {
        next: "send JSON with the header Content-Type: application/json, a file's bytes with application/octet-stream",
      }),
    };
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return { error: new AleError("request-invalid", message) };
  if (code === "ENOSPC" || code === "EDQUOT")
    return {
      error: new AleError("disk-full", "the server's disk is full", {
        next: "make room on it",
        cause: error,
      }),
    };
  return {
    error: new AleError("internal", "the server failed in a way that it should not", {
      next: "look into the server's own output, and report it",
      cause: error,
    }),
  };
}

/** Whether it is a fault of the server itself: nothing that a caller did, and nothing that a caller should read. */
export const isFault = (error: AleError): boolean => error.code === "internal";
