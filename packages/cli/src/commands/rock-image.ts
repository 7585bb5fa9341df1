import { existsSync } from "node:fs";
import { basename, resolve } from "node:path";
import {
  type BuildProgress,
  baseImage,
  bootstrapImage,
  buildImage,
  type ExportFormat,
  exportImage,
  imageDisk,
  imageLabel,
  importImage,
  type LocalImage,
  listImages,
  mapImage,
  type PullProgress,
  pruneImages,
  pullImage,
  pushImage,
  removeImage,
} from "@ale/rock";
import { defineUsage, oneOf, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { outRefusal } from "../out-files.ts";
import { printable } from "../printable.ts";
import { bytes, duration, pairs } from "../rock/format.ts";
import { unenforced, WITHOUT_LIMIT } from "../rock/without-limit.ts";
import { table } from "../table.ts";

/** Images of this home. They work on it directly: no server is needed, and one that runs sees the change at once. */

function report(io: Io, image: LocalImage): number {
  io.print(imageLabel(image));
  const { name, digest, config, mappedTo } = image;
  io.result({ name, digest, layers: image.layers.length, config, ...(mappedTo ? { mappedTo } : {}) });
  return EXIT.ok;
}

const pullUsage = defineUsage({
  positionals: "IMAGE",
  options: {
    platform: { type: "string", value: "OS/ARCH", help: "e.g. linux/arm64 (default: this machine's)" },
    insecure: {
      type: "boolean",
      help: "the registry may be asked without TLS: what comes can be read on the way",
    },
  },
  notes: `
From any OCI registry, with the credentials of ~/.docker/config.json. Layers that are here already are not fetched again.
example: ale rock image pull python:3.11-slim`,
});

export const pull: Action = {
  usage: pullUsage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(pullUsage, argv);
    const image = await pullImage(
      io.home,
      positionals[0]!,
      {
        ...(values.platform === undefined ? {} : { platform: values.platform }),
        insecure: values.insecure,
        onProgress: (progress) => showPull(io, progress),
      },
      signal,
    );
    return report(io, image);
  },
};

function showPull(io: Io, { type, digest, doneBytes, totalBytes }: PullProgress): void {
  const short = digest.replace("sha256:", "").slice(0, 12);
  const amount = totalBytes > 0 ? ` ${bytes(doneBytes)} of ${bytes(totalBytes)}` : "";
  io.progress.status(`${type} ${short}${amount}`);
}

const pushUsage = defineUsage({
  positionals: "IMAGE",
  options: {
    as: { type: "string", value: "NAME", help: "its name in the registry (default: the same)" },
    insecure: {
      type: "boolean",
      help: "the registry may be asked without TLS: what comes can be read on the way",
    },
  },
});

export const push: Action = {
  usage: pushUsage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(pushUsage, argv);
    const name = positionals[0]!;
    const { insecure } = values;
    const result = await pushImage(io.home, name, values.as ?? name, { insecure }, signal);
    io.print(`${values.as ?? name}`);
    io.result(result);
    return EXIT.ok;
  },
};

const importUsage = defineUsage({
  positionals: "FILE [NAME]",
  options: {
    image: { type: "string", value: "NAME", help: "which one, where the archive holds several" },
    platform: { type: "string", value: "OS/ARCH", help: "default: this machine's" },
  },
  notes: `
Reads what docker save and podman save write, and OCI layouts, as a tar or a directory. FILE - is stdin. Without NAME the image is called
as in the archive.
example: docker save python:3.11-slim | ale rock image import - python:3.11-slim`,
});

export const importCommand: Action = {
  usage: importUsage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(importUsage, argv);
    const [file = "", name] = positionals;
    if (file !== "-" && !existsSync(file)) throw usageError(`there is no ${file}`);
    io.progress.status(`importing ${basename(file)}`);
    const options = {
      name,
      ...(values.image === undefined ? {} : { image: values.image }),
      ...(values.platform === undefined ? {} : { platform: values.platform }),
    };
    const source = file === "-" ? (process.stdin as AsyncIterable<Uint8Array>) : file;
    return report(io, await importImage(io.home, source, options, signal));
  },
};

const FORMATS = ["docker-archive", "oci-archive", "oci-layout"] as const satisfies readonly ExportFormat[];

const exportUsage = defineUsage({
  positionals: "IMAGE FILE",
  options: {
    format: { type: "string", value: "FORMAT", help: `${FORMATS.join(", ")} (default: the first)` },
  },
  notes: "docker load and podman load read a docker-archive; an oci-layout is a directory.",
});

export const exportCommand: Action = {
  usage: exportUsage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(exportUsage, argv);
    const [name = "", file = ""] = positionals;
    const format = oneOf("--format", values.format, FORMATS);
    io.progress.status(`exporting ${name}`);
    await exportImage(io.home, name, file, format === undefined ? {} : { format }, signal).catch(
      (error: unknown) => {
        throw outRefusal(file, "cannot be written", error);
      },
    );
    io.print(file);
    io.result({ image: name, file, format: format ?? FORMATS[0] });
    return EXIT.ok;
  },
};

const bootstrapUsage = defineUsage({
  positionals: "NAME [PACKAGE...]",
  options: {
    suite: {
      type: "string",
      value: "SUITE",
      help: "Debian release (default: this machine's, else bookworm)",
    },
    agent: { type: "boolean", help: "with the unprivileged user agent, as whom programs then run" },
    env: { type: "string", short: "e", multiple: true, value: "K=V", help: "environment; may be repeated" },
  },
  notes: `
For machines that reach a Debian mirror and no registry. The same words make the same image, once.
example: ale rock image bootstrap tools python3 git; ale rock image map python:3.11-slim tools`,
});

export const bootstrap: Action = {
  usage: bootstrapUsage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(bootstrapUsage, argv);
    const [name = "", ...packages] = positionals;
    const env = pairs("--env", values.env);
    const image = await bootstrapImage(
      io.home,
      {
        name,
        packages,
        agent: values.agent,
        ...(values.suite === undefined ? {} : { suite: values.suite }),
        ...(env === undefined ? {} : { env }),
        onProgress: ({ step, elapsedMs }) =>
          io.progress.status(`${step} (${(elapsedMs / 1_000).toFixed(0)} s)`),
      },
      signal,
    );
    return report(io, image);
  },
};

const mapUsage = defineUsage({
  positionals: "NAME IMAGE",
  options: {},
  notes: "Results that are made with a mapped name say so.",
});

export const map: Action = {
  usage: mapUsage,
  async run(argv, io) {
    const { positionals } = parseArguments(mapUsage, argv);
    return report(io, mapImage(io.home, positionals[0]!, positionals[1]!));
  },
};

const buildUsage = defineUsage({
  positionals: "[DIR]",
  options: {
    tag: { type: "string", short: "t", value: "NAME", help: "the new image's name; required" },
    file: { type: "string", short: "f", value: "FILE", help: "default: DIR/Dockerfile" },
    arg: { type: "string", multiple: true, value: "K=V", help: "value of an ARG; may be repeated" },
    target: { type: "string", value: "STAGE", help: "default: the last" },
    network: {
      type: "string",
      value: "none|host",
      help: "host: RUN reaches whatever this machine reaches, its own services included (default none)",
    },
    ...WITHOUT_LIMIT,
    "no-cache": { type: "boolean", help: "do every step again" },
    "no-pull": { type: "boolean", help: "base images must be here" },
  },
  notes: `
From a Dockerfile, without a daemon. Each RUN is a sandbox of its own; steps that were done before are not done again.
example: ale rock image build -t tools ./tools --network host`,
});

export const build: Action = {
  usage: buildUsage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(buildUsage, argv);
    if (values.tag === undefined) throw usageError("--tag is missing", "--tag NAME names the new image");
    const context = resolve(positionals[0] ?? ".");
    if (!existsSync(context)) throw usageError(`there is no ${context}`);
    const network = oneOf("--network", values.network, ["none", "host"] as const);
    const args = pairs("--arg", values.arg);
    const built = await buildImage(
      io.home,
      {
        context,
        tag: values.tag,
        useCache: !values["no-cache"],
        pull: values["no-pull"] ? "never" : "missing",
        unenforced: unenforced(values),
        onProgress: (progress) => showBuild(io, progress),
        ...(values.file === undefined ? {} : { dockerfile: resolve(values.file) }),
        ...(values.target === undefined ? {} : { target: values.target }),
        ...(args === undefined ? {} : { args }),
        ...(network === undefined ? {} : { network }),
      },
      signal,
    );
    const { image, steps, cachedSteps, warnings } = built;
    io.print(`${imageLabel(image)}: ${steps} steps, ${cachedSteps} of them from the cache`);
    io.result({ name: image.name, digest: image.digest, steps, cachedSteps, warnings });
    return EXIT.ok;
  },
};

/** What RUN prints is hostile text like all output of a sandbox. */
function showBuild(io: Io, progress: BuildProgress): void {
  if (progress.type === "step") {
    const cached = progress.cached ? io.paint("dim", " (cached)") : "";
    io.note(`${io.paint("bold", `line ${progress.line}`)} ${printable(progress.text)}${cached}`);
  } else if (progress.type === "warning")
    io.note(`${io.paint("yellow", "warning:")} line ${progress.line}: ${printable(progress.message)}`);
  else
    for (const line of Buffer.from(progress.chunk).toString("utf8").trimEnd().split("\n"))
      io.note(`  ${printable(line)}`);
}

const listUsage = defineUsage({ positionals: "", options: {} });

export const list: Action = {
  usage: listUsage,
  async run(argv, io) {
    parseArguments(listUsage, argv);
    const images = listImages(io.home);
    const disk = imageDisk(io.home);
    const rows = images.map((image) => [
      image.name,
      image.mappedTo === undefined ? "" : `= ${image.mappedTo}`,
      image.digest.replace("sha256:", "").slice(0, 12),
      duration(Date.now() - image.updatedAtMs),
      bytes(image.bytes),
      bytes(image.ownBytes),
      String(image.usedBy.length),
      image.complete ? "" : io.paint("red", "incomplete"),
    ]);
    const columns = [
      { title: "image" },
      { title: "" },
      { title: "digest" },
      { title: "age", align: "right" as const },
      { title: "size", align: "right" as const },
      { title: "own", align: "right" as const },
      { title: "used by", align: "right" as const },
      { title: "" },
    ];
    const [head = "", ...body] = table(columns, rows);
    if (rows.length === 0)
      io.print(
        existsSync(baseImage(io.home).rootfs)
          ? "no images but ale/base, which is listed as soon as another one stands on it"
          : "no images; ale/base comes with: ale setup image",
      );
    else for (const line of [io.paint("dim", head), ...body]) io.print(line);
    const unused = disk.unusedBytes > 0 ? `, ${bytes(disk.unusedBytes)} unused (ale rock image prune)` : "";
    const held = disk.heldBytes > 0 ? `, ${bytes(disk.heldBytes)} of evidence (ale guard evidence ls)` : "";
    io.print(`${bytes(disk.layerBytes)} of layers, ${bytes(disk.blobBytes)} as fetched${unused}${held}`);
    io.result({ images, disk });
    return EXIT.ok;
  },
};

const removeUsage = defineUsage({ positionals: "IMAGE...", options: {} });

export const remove: Action = {
  usage: removeUsage,
  async run(argv, io) {
    const { positionals } = parseArguments(removeUsage, argv);
    const removed = positionals.map((name) => ({ name, ...removeImage(io.home, name) }));
    for (const { name, bytes: freed, deferred } of removed)
      io.print(deferred ? `${name}: its files go with the next prune` : `${name}: ${bytes(freed)} freed`);
    io.result({ removed });
    return EXIT.ok;
  },
};

const pruneUsage = defineUsage({ positionals: "", options: {} });

export const prune: Action = {
  usage: pruneUsage,
  async run(argv, io) {
    parseArguments(pruneUsage, argv);
    const removal = pruneImages(io.home);
    io.print(`${removal.layers} layers, ${bytes(removal.bytes)} freed`);
    io.result(removal);
    return EXIT.ok;
  },
};
