import { lstatSync, mkdirSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MergedTree } from "../src/image/merged.ts";
import { digestOf } from "../src/image/store.ts";
import {
  BASE_IMAGE,
  type BuildOptions,
  buildImage,
  exportImage,
  importImage,
  mapImage,
  OciDriver,
  resolveImage,
} from "../src/index.ts";
import { type Directory, homeWithBase, tarOf, temporary } from "./image-support.ts";
import { obstacle, spec, suite } from "./support.ts";

const MIB = 2 ** 20;
/** Small enough to stay in memory, which is faster. */
const LIMITS = { memoryBytes: 256 * MIB, diskBytes: 64 * MIB, execTimeoutMs: 20_000 } as const;

describe.skipIf(obstacle)(suite("building an image"), () => {
  let home: Directory;
  let driver: OciDriver;
  let count = 0;
  beforeAll(async () => {
    home = await homeWithBase();
    driver = new OciDriver({ home: home.path });
  });
  afterAll(async () => {
    await driver[Symbol.asyncDispose]();
    home[Symbol.dispose]();
  });

  /** Builds what these files say; the one called Dockerfile is the recipe. */
  async function build(files: Readonly<Record<string, string | Buffer>>, more: Partial<BuildOptions> = {}) {
    const context = join(home.path, `context-${count++}`);
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(context, name)), { recursive: true });
      writeFileSync(join(context, name), content);
    }
    return buildImage(home.path, { context, tag: "built", limits: LIMITS, driver, pull: "never", ...more });
  }

  const tree = (name = "built") => new MergedTree(resolveImage(home.path, name).layers);
  const read = (path: string) => tree().read(path);
  const stat = (path: string) => tree().resolve(path, { followLast: false }).node?.stat;

  test("RUN changes files as root in a sandbox, and the sandbox of the image sees it", async () => {
    const { image } = await build({
      Dockerfile: `FROM ${BASE_IMAGE}
USER root
RUN useradd -m worker 2>/dev/null || echo 'worker:x:1500:1500::/home/worker:/bin/bash' >> /etc/passwd
RUN mkdir -p /opt/app && echo made > /opt/app/file && chown 1500:1500 /opt/app/file && rm /etc/hostname
ENV GREETING="hello world"
WORKDIR /opt/app
CMD ["cat", "file"]
`,
    });
    expect(read("/opt/app/file")).toBe("made\n");
    expect(stat("/opt/app/file")).toMatchObject({ uid: 1500, gid: 1500 });
    expect(stat("/etc/hostname")).toBeUndefined();
    expect(image.config).toMatchObject({
      workdir: "/opt/app",
      user: "root",
      command: ["cat", "file"],
      env: { GREETING: "hello world" },
    });
    await using box = await driver.create(spec({ image: "built", workdir: "/" }));
    const result = await box.exec({ argv: ["cat", "/opt/app/file"], user: "root" });
    expect(result.stdout).toBe("made\n");
  });

  test("the same build again does nothing; a changed file redoes what depends on it", async () => {
    const files = {
      Dockerfile: `FROM ${BASE_IMAGE}\nUSER root\nRUN date +%N > /once\nCOPY data /data\nRUN cat /data > /copy\n`,
      data: "1",
    };
    const first = await build(files);
    const once = read("/once");
    const second = await build(files);
    expect(second.image.digest).toBe(first.image.digest);
    expect(second.cachedSteps).toBe(3);
    const third = await build({ ...files, data: "2" });
    expect([third.cachedSteps, read("/once"), read("/copy")]).toEqual([1, once, "2"]);
    const fresh = await build(files, { useCache: false });
    expect(fresh.cachedSteps).toBe(0);
    expect(read("/once")).not.toBe(once);
  });

  test("COPY puts files, directories and patterns where the reference says, without what .dockerignore names", async () => {
    await build({
      Dockerfile: `FROM ${BASE_IMAGE}
WORKDIR /srv
COPY one.txt renamed
COPY one.txt two.txt sub/
COPY dir dest
COPY *.txt /pattern/
COPY --chown=agent --chmod=640 one.txt /owned/
COPY ["with space", "/spaces/"]
COPY one.txt /bin/
COPY . /all
`,
      "one.txt": "1",
      "two.txt": "2",
      "with space": "s",
      "dir/inner/deep": "d",
      "dir/skip.log": "x",
      "secret/key": "x",
      "secret/keep": "k",
      ".dockerignore": "**/*.log\nsecret\n!secret/keep\n",
    });
    expect(read("/srv/renamed")).toBe("1");
    expect([read("/srv/sub/one.txt"), read("/srv/sub/two.txt")]).toEqual(["1", "2"]);
    expect(read("/srv/dest/inner/deep")).toBe("d");
    expect(stat("/srv/dest/skip.log")).toBeUndefined();
    expect(read("/pattern/two.txt")).toBe("2");
    expect(stat("/owned/one.txt")).toMatchObject({ uid: 1000, gid: 1000, mode: 0o100640 });
    expect(read("/spaces/with space")).toBe("s");
    // /bin is a link of the base image: it stays one.
    expect(stat("/bin")?.isSymbolicLink()).toBe(true);
    expect(read("/usr/bin/one.txt")).toBe("1");
    expect([read("/all/secret/keep"), stat("/all/secret/key")]).toEqual(["k", undefined]);
    expect(stat("/etc")?.mode).toBe(
      lstatSync(join(resolveImage(home.path, BASE_IMAGE).layers[0]!, "etc")).mode,
    );
  });

  test("several stages: only what the target needs is built, and files go from one to the other", async () => {
    const Dockerfile = `ARG BASE=${BASE_IMAGE}
FROM \${BASE} AS tools
USER root
RUN mkdir /out && echo tool > /out/tool && ln -s tool /out/link

FROM ${BASE_IMAGE} AS broken
RUN exit 9

FROM scratch AS final
COPY --from=tools /out /bin
COPY --from=0 /out/link /followed
COPY --from=${BASE_IMAGE} /etc/debian_version /version
`;
    const { image } = await build({ Dockerfile }, { tag: "slim" });
    expect(image.layers).toHaveLength(3);
    const slim = tree("slim");
    expect(slim.read("/bin/tool")).toBe("tool\n");
    const link = slim.resolve("/bin/link", { followLast: false }).node!;
    expect(readlinkSync(link.path)).toBe("tool");
    expect(slim.read("/followed")).toBe("tool\n");
    expect(slim.read("/version")).toMatch(/\d/);
    await expect(build({ Dockerfile }, { target: "broken" })).rejects.toMatchObject({ code: "build-failed" });
    await expect(build({ Dockerfile }, { target: "finall" })).rejects.toMatchObject({
      code: "stage-unknown",
      next: "did you mean final?",
    });
  });

  test("arguments: global ones for FROM, others where they are declared, given values before defaults, ENV before all", async () => {
    const { warnings } = await build(
      {
        Dockerfile: `ARG VERSION=1
FROM ${BASE_IMAGE}
USER root
RUN echo "[$VERSION]" > /before
ARG VERSION
ARG WHO=nobody
ENV LABELLED=\${WHO:-x}-\${VERSION}
RUN echo "$VERSION $WHO $LABELLED" > /after
ARG LABELLED=shadowed
RUN echo "$LABELLED" > /shadow
`,
      },
      { args: { WHO: "me", UNUSED: "1" } },
    );
    expect(read("/before")).toBe("[]\n");
    expect(read("/after")).toBe("1 me me-1\n");
    expect(read("/shadow")).toBe("me-1\n");
    expect(warnings.join()).toContain("the argument UNUSED is not used");
  });

  test("here-documents are scripts, input and files; SHELL and the exec form choose the program", async () => {
    await build({
      Dockerfile: `FROM ${BASE_IMAGE}
USER root
RUN <<EOF
set -e
echo one > /script
echo two >> /script
EOF
RUN <<EOF
#!/usr/bin/perl
open my $f, ">", "/perl"; print $f "from perl";
EOF
RUN cat > /input <<'EOF' && echo done >> /input
$HOME stays
EOF
COPY <<one <<"two" /files/
home is $PATH_NAME "quoted"
one
raw $PATH_NAME
two
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN false | true || echo pipefail > /shell
RUN ["/bin/sh", "-c", "echo $0 > /exec", "arg"]
`,
    });
    expect(read("/script")).toBe("one\ntwo\n");
    expect(read("/perl")).toBe("from perl");
    expect(read("/input")).toBe("$HOME stays\ndone\n");
    expect(read("/files/one")).toBe('home is  "quoted"\n');
    expect(read("/files/two")).toBe("raw $PATH_NAME\n");
    expect(read("/shell")).toBe("pipefail\n");
    expect(read("/exec")).toBe("arg\n");
  });

  test("ADD unpacks local archives, and no address is fetched", async () => {
    const tar = tarOf(
      { path: "pkg", type: "directory", mode: 0o755 },
      { path: "pkg/run", content: "r", uid: 5, mode: 0o755 },
    );
    await build({
      Dockerfile: `FROM ${BASE_IMAGE}\nADD a.tar.gz /opt/\nADD b.tar /bin/\nADD plain /opt/\nCOPY b.tar /kept/`,
      "a.tar.gz": gzipSync(tar),
      "b.tar": tar,
      plain: "p",
    });
    expect(read("/opt/pkg/run")).toBe("r");
    expect(stat("/opt/pkg/run")).toMatchObject({ uid: 5, mode: 0o100755 });
    expect([read("/usr/bin/pkg/run"), read("/opt/plain")]).toEqual(["r", "p"]);
    expect(stat("/kept/b.tar")?.isFile()).toBe(true);
    const climbing = tarOf({ path: "../../etc/shadow", content: "x" });
    const attempt = build({ Dockerfile: "FROM scratch\nADD x.tar /a/", "x.tar": climbing });
    await expect(attempt).rejects.toMatchObject({ code: "layer-unsafe" });
    const remote = build({ Dockerfile: "FROM scratch\nADD https://example.com/x /x" });
    await expect(remote).rejects.toThrow("Dockerfile:2: ADD of https://example.com/x is not supported");
  });

  test("a failing command is told with its line, its exit code and the end of its output; what came before is kept", async () => {
    const Dockerfile = (code: number) =>
      `FROM ${BASE_IMAGE}\nUSER root\nRUN echo kept > /kept\nRUN echo why it failed; exit ${code}\n`;
    await expect(build({ Dockerfile: Dockerfile(3) }, { tag: "never" })).rejects.toMatchObject({
      code: "build-failed",
      message: expect.stringMatching(/^Dockerfile:4: the command failed \(exit code 3\):\nwhy it failed/),
    });
    expect(() => resolveImage(home.path, "never")).toThrow("no local image");
    expect((await build({ Dockerfile: Dockerfile(0) })).cachedSteps).toBe(1);
  });

  test("a command has no network, and the error says how to give it one", async () => {
    const attempt = build({
      Dockerfile: `FROM ${BASE_IMAGE}\nUSER root\nRUN perl -MIO::Socket::INET -e 'IO::Socket::INET->new("192.0.2.1:80") or die $!'\n`,
    });
    await expect(attempt).rejects.toMatchObject({
      message: expect.stringContaining("Network is unreachable"),
      next: expect.stringContaining("--network host"),
    });
    await expect(build({ Dockerfile: `FROM ${BASE_IMAGE}\nRUN --network=host true` })).rejects.toThrow(
      "Dockerfile:2: RUN --network=host needs the build to be started with `--network host`",
    );
  });

  test("an image above a foreign one is handed on with the foreign layer's own bytes", async () => {
    // In an order, and without a parent, that we would never write.
    const layer = tarOf({ path: "z/file", content: "z" }, { path: "a", content: "a" });
    const config = JSON.stringify({
      os: "linux",
      architecture: "amd64",
      rootfs: { type: "layers", diff_ids: [digestOf(layer)] },
    });
    const manifest = JSON.stringify([{ Config: "c.json", RepoTags: ["foreign:1"], Layers: ["l.tar"] }]);
    const archive = join(home.path, "foreign.tar");
    writeFileSync(
      archive,
      tarOf(
        { path: "l.tar", content: layer },
        { path: "c.json", content: config },
        { path: "manifest.json", content: manifest },
      ),
    );
    await importImage(home.path, archive, { name: "foreign:1" });
    await build({ Dockerfile: "FROM foreign:1\nCOPY Dockerfile /z/mine\n" }, { tag: "above" });
    const out = join(home.path, "above.tar");
    await exportImage(home.path, "above", out, { format: "oci-archive" });
    using other = temporary();
    const image = await importImage(other.path, out, { name: "above" });
    const copy = new MergedTree(image.layers);
    expect([copy.read("/z/file"), copy.read("/a")]).toEqual(["z", "a"]);
    expect(copy.read("/z/mine")).toContain("FROM foreign:1");
  });

  test("with `network: host` spelled out, a command reaches this machine's network; the next build does not", async () => {
    const server = createServer((socket) => socket.end("hello from outside\n"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const ask = `perl -MIO::Socket::INET -e 'print IO::Socket::INET->new("127.0.0.1:${port}")->getline or die $!' > /said`;
    const Dockerfile = `FROM ${BASE_IMAGE}\nUSER root\nRUN ${ask}\n`;
    try {
      await build({ Dockerfile }, { network: "host" });
      expect(read("/said")).toBe("hello from outside\n");
      await expect(build({ Dockerfile })).rejects.toMatchObject({ code: "build-failed" });
    } finally {
      server.close();
    }
  });

  test("links in the context never lead out of it", async () => {
    const context = join(home.path, "linked");
    mkdirSync(context);
    symlinkSync("/etc/passwd", join(context, "absolute"));
    symlinkSync("../../../../../../etc/passwd", join(context, "climbing"));
    for (const source of ["absolute", "climbing", "../linked", "/etc/passwd"]) {
      writeFileSync(join(context, "Dockerfile"), `FROM scratch\nCOPY ${source} /x\n`);
      await expect(buildImage(home.path, { context, tag: "x" }), source).rejects.toMatchObject({
        code: expect.stringMatching(/copy-(missing|outside)/),
      });
    }
    // Inside a directory a link is copied as a link.
    writeFileSync(join(context, "Dockerfile"), "FROM scratch\nCOPY . /x\n");
    await buildImage(home.path, { context, tag: "x" });
    expect(tree("x").resolve("/x/absolute", { followLast: false }).node!.stat.isSymbolicLink()).toBe(true);
  });

  test("a base that only stands for the name is told, and mistakes name their line", async () => {
    mapImage(home.path, "python:3.11", BASE_IMAGE);
    const { warnings } = await build({
      Dockerfile: "FROM python:3.11\nHEALTHCHECK NONE\nEXPOSE 80 53/udp\n",
    });
    expect(warnings).toEqual([
      "Dockerfile:1: python:3.11 stands for the local image ale/base:latest here",
      "Dockerfile:2: HEALTHCHECK has no effect in a sandbox",
    ]);
    expect(resolveImage(home.path, "built").config.exposedPorts).toEqual(["80/tcp", "53/udp"]);
    const wrong = (text: string) => build({ Dockerfile: text });
    await expect(wrong("FROM pythn:3.11")).rejects.toMatchObject({
      code: "image-unknown",
      message: expect.stringMatching(/^Dockerfile:1: /),
      next: expect.stringContaining("python:3.11"),
    });
    const mistakes: readonly (readonly [string, string])[] = [
      ["FROM scratch\nONBUILD RUN ls", "Dockerfile:2: ONBUILD is not supported"],
      ["FROM scratch\nCOPY gone /x", "Dockerfile:2: gone does not exist"],
      ["RUN ls\nFROM scratch", "Dockerfile:1: RUN before the first FROM"],
      [
        `FROM ${BASE_IMAGE}\nCOPY --chown=nobody2 Dockerfile /x`,
        'Dockerfile:2: the image has no user "nobody2"',
      ],
      [
        "FROM scratch\nRUN --mount=type=secret,id=x ls",
        "Dockerfile:2: RUN --mount=type=secret is not supported",
      ],
      [`FROM scratch\nENV A=\${x#y}`, "is not supported: only :-"],
    ];
    for (const [text, message] of mistakes) await expect(wrong(text), text).rejects.toThrow(message);
  });
});
