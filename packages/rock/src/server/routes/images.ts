import { AleError } from "@ale/core";
import { z } from "zod";
import { canonicalName } from "../../image/reference.ts";
import { ImageList, ImageName } from "../../wire/system-schemas.ts";
import type { App, AppContext } from "../app.ts";
import type { ImageShelf } from "../images.ts";
import { mayUseImage, refuseForeignImage } from "../private-images.ts";
import { hasFiles, type SandboxRecord } from "../record.ts";
import { EventQueue, gone, sendEvents } from "../streams.ts";
import { problems } from "./responses.ts";

/** Images of the native API. */

const tags = ["images"];

export function imageRoutes(app: App, { closing, service }: AppContext, images: ImageShelf): void {
  app.get(
    "/images",
    {
      config: { scope: "sandbox:read" },
      schema: { tags, summary: "List the images", response: { 200: ImageList, ...problems } },
    },
    async ({ caller }) => ({
      images: (await images.list()).filter(({ name }) => mayUseImage(caller.tenant, name)),
    }),
  );

  app.post(
    "/images/pull",
    {
      config: { scope: "image" },
      schema: {
        tags,
        summary: "Fetch an image, with its progress as server-sent events",
        description: "Events: `progress` {message}, `image` (the image), `error` (a problem).",
        answers: "text/event-stream",
        body: ImageName,
        response: problems,
      },
    },
    async (request, reply) => {
      refuseForeignImage(request.caller.tenant, request.body.name);
      const signal = gone(request, reply, closing);
      const queue = new EventQueue();
      const progress = (message: string): void => {
        if (queue.waiting < 32) void queue.push({ event: "progress", data: { message } });
      };
      images.pull(request.body.name, progress, signal).then(
        (image) => {
          void queue.push({ event: "image", data: image });
          queue.end();
        },
        (error: unknown) => queue.fail(error),
      );
      return sendEvents(reply, queue);
    },
  );

  app.delete(
    "/images",
    {
      config: { scope: "image", frees: true },
      schema: {
        tags,
        summary: "Remove an image",
        querystring: ImageName,
        response: { 204: z.null(), ...problems },
      },
    },
    async ({ query, caller }, reply) => {
      refuseForeignImage(caller.tenant, query.name);
      refuseUsed(service.everything(), query.name);
      await images.remove(query.name);
      return reply.code(204).send(null);
    },
  );
}

/** A stopped sandbox needs its image to start again. */
function refuseUsed(records: readonly SandboxRecord[], name: string): void {
  const users = records.filter(
    (record) => hasFiles(record) && canonicalName(record.spec.image) === canonicalName(name),
  );
  if (users.length > 0)
    throw new AleError("image-in-use", `${users.length} sandboxes are of the image ${name}`, {
      next: "delete them first",
    });
}
