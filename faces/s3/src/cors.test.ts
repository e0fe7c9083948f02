import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { send } from "./test-request.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

let server: TestServer;

before(async () => {
  server = await startTestServer();
  await send(server, server.main, "PUT", "/pail", { headers: { "x-amz-acl": "public-read" } });
});

after(() => server[Symbol.asyncDispose]());

const rule = (inner: string) => `<CORSRule>${inner}</CORSRule>`;
const configuration = (...rules: string[]) => ({
  body: `<CORSConfiguration>${rules.join("")}</CORSConfiguration>`,
});
const get = "<AllowedMethod>GET</AllowedMethod>";
const put = (options: { body: string }) => send(server, server.main, "PUT", "/pail?cors", options);

test("a configuration is kept as it was given, and refused where it means nothing", async () => {
  const { main } = server;
  const full = rule(
    "<ID>one</ID><AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedOrigin>https://*.example.org</AllowedOrigin><AllowedHeader>x-amz-*</AllowedHeader><MaxAgeSeconds>300</MaxAgeSeconds><ExposeHeader>ETag</ExposeHeader>",
  );
  assert.equal((await put(configuration(full))).status, 200);
  assert.ok((await send(server, main, "GET", "/pail?cors")).text.includes(full));
  const origin = "<AllowedOrigin>*</AllowedOrigin>";
  const table: [string[], string][] = [
    [[], "MalformedXML"],
    [["<Rule/>"], "MalformedXML"],
    [[rule(get)], "MalformedXML"],
    [[rule(origin)], "MalformedXML"],
    [[rule(`${origin}<AllowedMethod>PATCH</AllowedMethod>`)], "InvalidRequest"],
    [[rule(`${get}<AllowedOrigin>*.*</AllowedOrigin>`)], "InvalidRequest"],
    [[rule(`${get}${origin}<AllowedHeader>*-*</AllowedHeader>`)], "InvalidRequest"],
    [[rule(`${get}${origin}<ExposeHeader>*</ExposeHeader>`)], "InvalidRequest"],
    [[rule(`${get}${origin}<MaxAgeSeconds>soon</MaxAgeSeconds>`)], "MalformedXML"],
    [Array(101).fill(rule(get + origin)), "MalformedXML"],
  ];
  for (const [rules, code] of table) {
    assert.equal((await put(configuration(...rules))).code, code, rules.join("").slice(0, 100));
  }
  assert.equal((await send(server, main, "DELETE", "/pail?cors")).status, 204);
  assert.equal((await send(server, main, "GET", "/pail?cors")).code, "NoSuchCORSConfiguration");
});

test("which origins, methods and headers a preflight lets pass", async () => {
  await put(
    configuration(
      rule(`${get}<AllowedOrigin>https://*.example.org</AllowedOrigin><AllowedHeader>x-a-*</AllowedHeader>`),
      rule("<AllowedMethod>PUT</AllowedMethod><AllowedOrigin>*</AllowedOrigin>"),
    ),
  );
  const table: [origin: string | undefined, method: string | undefined, headers: string, outcome: string][] =
    [
      ["https://a.example.org", "GET", "", "200 https://a.example.org"],
      ["https://a.example.org", "GET", "X-A-one, x-a-two", "200 https://a.example.org"],
      ["https://a.example.org", "GET", "x-b", "403 null"],
      ["https://example.org", "GET", "", "403 null"],
      ["https://a.example.org.evil", "GET", "", "403 null"],
      ["https://elsewhere.net", "PUT", "", "200 *"],
      ["https://elsewhere.net", "DELETE", "", "403 null"],
      [undefined, "GET", "", "400 null"],
      ["https://a.example.org", undefined, "", "400 null"],
    ];
  for (const [origin, method, names, expected] of table) {
    const { status, headers } = await send(server, undefined, "OPTIONS", "/pail/any/key", {
      headers: {
        ...(origin === undefined ? {} : { origin }),
        ...(method === undefined ? {} : { "access-control-request-method": method }),
        ...(names === "" ? {} : { "access-control-request-headers": names }),
      },
    });
    const got = `${status} ${headers.get("access-control-allow-origin")}`;
    assert.equal(got, expected, `${origin} ${method} ${names}`);
  }
});

test("answers, errors too, tell a page that it may read them", async () => {
  await put(
    configuration(
      rule(`${get}<AllowedOrigin>https://example.org</AllowedOrigin><ExposeHeader>ETag</ExposeHeader>`),
    ),
  );
  const headers = { origin: "https://example.org" };
  for (const target of ["/pail", "/pail/none"]) {
    const answer = await send(server, undefined, "GET", target, { headers });
    assert.equal(answer.headers.get("access-control-allow-origin"), "https://example.org", target);
    assert.equal(answer.headers.get("access-control-allow-credentials"), "true");
    assert.equal(answer.headers.get("access-control-expose-headers"), "ETag");
    assert.match(answer.headers.get("vary") ?? "", /Origin/);
  }
  const elsewhere = await send(server, undefined, "GET", "/pail", { headers: { origin: "https://x.org" } });
  assert.equal(elsewhere.headers.get("access-control-allow-origin"), null);
});
