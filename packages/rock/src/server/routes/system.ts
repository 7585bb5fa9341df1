import { z } from "zod";
import {
  CapabilitiesView,
  Health,
  TokenCreate,
  TokenCreated,
  TokenList,
  TokenParams,
  UsageView,
} from "../../wire/system-schemas.ts";
import type { App, AppContext } from "../app.ts";
import type { Audit } from "../audit.ts";
import type { Metrics } from "../metrics.ts";
import { openApiOf } from "../openapi.ts";
import type { TokenStore } from "../token-store.ts";
import { problems } from "./responses.ts";

/** What the server says of itself, and its tokens. */

const tags = ["server"];

export function systemRoutes(
  app: App,
  { service }: AppContext,
  parts: { readonly audit: Audit; readonly metrics: Metrics; readonly version: string },
): void {
  const { audit, metrics, version } = parts;

  app.get(
    "/health",
    {
      config: { scope: "public" },
      schema: { tags, summary: "Whether it serves", response: { 200: Health, ...problems } },
    },
    async () => ({
      status: audit.healthy ? ("ok" as const) : ("degraded" as const),
      version,
      audit: audit.healthy,
    }),
  );

  let document: Record<string, unknown> | undefined;
  app.get(
    "/openapi.json",
    {
      config: { scope: "public" },
      schema: { tags, summary: "This document", response: { 200: z.record(z.string(), z.unknown()) } },
    },
    async () => {
      document ??= openApiOf(app) as unknown as Record<string, unknown>;
      return document;
    },
  );

  app.get(
    "/capabilities",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "What the driver can do on this host",
        response: { 200: CapabilitiesView, ...problems },
      },
    },
    async () => {
      const capabilities = await service.driver.capabilities();
      const { quota, network, trace, telemetry, weaker } = capabilities;
      const lists = {
        quota: [...quota],
        network: network.filter((mode) => service.network.modes.includes(mode)),
        trace: [...trace],
        telemetry: [...telemetry],
        weaker: [...weaker],
      };
      return { ...capabilities, ...lists };
    },
  );

  app.get(
    "/usage",
    {
      config: { scope: "sandbox:read" },
      schema: {
        tags,
        summary: "What the tenant uses, and may use",
        response: { 200: UsageView, ...problems },
      },
    },
    async ({ caller: { tenant } }) => ({
      tenant,
      used: service.usage(tenant),
      quota: service.quota(tenant),
    }),
  );

  app.get(
    "/metrics",
    {
      config: { scope: "admin" },
      schema: {
        tags,
        summary: "Counters in the text format of Prometheus",
        answers: "text/plain",
        response: problems,
      },
    },
    async (_request, reply) =>
      reply
        .type("text/plain; version=0.0.4; charset=utf-8")
        .serializer((body: unknown) => body as string)
        .send(metrics.text(service, audit.healthy) as never),
  );
}

export function tokenRoutes(app: App, tokens: TokenStore): void {
  app.get(
    "/tokens",
    {
      config: { scope: "admin" },
      schema: {
        tags,
        summary: "List tokens, without the tokens themselves",
        response: { 200: TokenList, ...problems },
      },
    },
    async () => ({ tokens: [...tokens.list()] }),
  );

  app.post(
    "/tokens",
    {
      config: { scope: "admin" },
      schema: {
        tags,
        summary: "Create a token for a tenant",
        body: TokenCreate,
        response: { 201: TokenCreated, ...problems },
      },
    },
    async ({ body }, reply) => {
      const { tenant, scopes, expiresAtMs } = body;
      const expires = expiresAtMs === undefined ? {} : { expiresAtMs };
      return reply.code(201).send(tokens.create({ tenant, scopes, ...expires }));
    },
  );

  app.delete(
    "/tokens/:tokenId",
    {
      config: { scope: "admin" },
      schema: {
        tags,
        summary: "Revoke a token",
        params: TokenParams,
        response: { 204: z.null(), ...problems },
      },
    },
    async ({ params }, reply) => {
      tokens.revoke(params.tokenId);
      return reply.code(204).send(null);
    },
  );
}
