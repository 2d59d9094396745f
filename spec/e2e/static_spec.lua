-- The files of a folder on the port of a server: what is shown and how, what is not, and how much memory it takes.

local http = require "khp.http"
local khp = require "khp"
local net = require "spec.support.net"

describe("the files of a folder", function()
  local outer, root, server, port

  local function write(name, text)
    local file = assert(io.open(outer .. "/" .. name, "wb"))
    file:write(text)
    file:close()
  end

  local function run(...)
    assert(os.execute((...):format(select(2, ...))))
  end

  lazy_setup(function()
    local pipe = assert(io.popen "mktemp -d")
    outer = pipe:read "*l"
    pipe:close()
    root = outer .. "/site"
    run("cd %s && mkdir -p site/docs/empty site/.git site/.well-known secret", outer)
    write("site/index.html", "<p>home</p>")
    write("site/docs/index.html", "<p>docs</p>")
    write("site/docs/a b.txt", "0123456789")
    write("site/empty.css", "")
    write("site/.git/config", "hidden")
    write("site/.well-known/security.txt", "known")
    write("site/.env", "hidden")
    write("secret/key.txt", "secret")
    run("cd %s/site && ln -s docs link && ln -s ../secret out && ln -s ../secret/key.txt key && ln -s .env env", outer)
    run("cd %s/site && mkfifo pipe && touch -d '2026-11-22 12:00:00 UTC' 'docs/a b.txt'", outer)
  end)

  lazy_teardown(function()
    run("rm -r %s", outer)
  end)

  before_each(function()
    local _
    server, _, port = net.serve { root = root, on_message = net.echo }
  end)

  after_each(function()
    server:close()
  end)

  -- The answer to a request on a connection of its own: as http.parse_response gives it, and the head's text.
  local function ask(target, more, method)
    local peer = net.peer(port)
    peer:send(("%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n"):format(method or "GET", target, more or ""))
    local received = peer:await_end()
    local head, body = received:match "^(.-\r\n\r\n)(.*)$"
    local answer = assert(http.parse_response((head:gsub("Content%-Length: %d+\r\n", ""))), received)
    answer.body, answer.length = body, tonumber(head:match "Content%-Length: (%d+)")
    return answer
  end

  local function status(target, more, method)
    return ask(target, more, method).status
  end

  it("are shown with their type, and WebSockets go on beside them", function()
    local answer = ask "/docs/a%20b.txt"
    assert.same({ 200, "0123456789", 10 }, { answer.status, answer.body, answer.length })
    local headers = answer.headers
    assert.equal("text/plain; charset=utf-8", headers["content-type"])
    assert.equal("nosniff", headers["x-content-type-options"])
    assert.equal("Sun, 22 Nov 2026 12:00:00 GMT", headers["last-modified"])
    assert.equal("bytes", headers["accept-ranges"])
    assert.equal("close", headers.connection)
    assert.matches('^"%x+%-%x+%-a"$', headers.etag)
    local empty = ask "/empty.css"
    assert.same({ 200, "", 0, "text/css; charset=utf-8" },
      { empty.status, empty.body, empty.length, empty.headers["content-type"] })
    local conn = assert(khp.connect(("ws://127.0.0.1:%d/docs/"):format(port)))
    conn:send "echo"
    assert.equal("echo", (conn:receive(5)))
    conn:close()
  end)

  it("answer HEAD with the same head and nothing else", function()
    local get, head = ask "/docs/a%20b.txt", ask("/docs/a%20b.txt", "Range: bytes=2-3\r\n", "HEAD")
    assert.same({ 200, "", 10 }, { head.status, head.body, head.length })
    assert.equal(get.headers.etag, head.headers.etag)
  end)

  it("of a folder are its index, asked for with a slash at the end", function()
    assert.equal("<p>home</p>", ask("/").body)
    assert.equal("<p>docs</p>", ask("/docs/").body)
    assert.equal("text/html; charset=utf-8", ask("/docs/").headers["content-type"])
    local elsewhere = ask "/docs?a=b"
    assert.same({ 301, "/docs/?a=b" }, { elsewhere.status, elsewhere.headers.location })
    assert.equal(404, status "/docs/empty/")
    assert.equal(404, status "/index.html/")
    assert.equal(404, status "//docs")
    assert.equal(404, status "/docs//")
  end)

  it("are all that can be had: no way leads out of the folder", function()
    for _, target in ipairs {
      "/../secret/key.txt", "/docs/../../secret/key.txt", "/%2e%2e/secret/key.txt", "/.%2E/secret/key.txt",
      "/docs/..%2f..%2fsecret/key.txt", "/%252e%252e/secret/key.txt", "/..\\secret\\key.txt", "/..%5csecret%5ckey.txt",
      "/%00", "/index.html%00.txt", "/docs%2fa%20b.txt", "/out/key.txt", "/out/", "/key", "/./index.html", "/%",
      "/%2", "/%zz", "/%c0%ae%c0%ae/secret/key.txt", "/docs/%0d%0aSet-Cookie:x/",
    } do
      local answer = ask(target)
      assert.equal(404, answer.status, target)
      assert.is_nil(answer.body:find("secret", 1, true), target)
    end
    assert.equal("0123456789", ask("/link/a%20b.txt").body) -- a link that stays in the folder is as good as another
  end)

  it("that are hidden are not there, but for those that are to be well known", function()
    for _, target in ipairs { "/.env", "/.git/config", "/.git/", "/%2eenv", "/env" } do
      assert.equal(404, status(target), target)
    end
    assert.equal("known", ask("/.well-known/security.txt").body)
  end)

  it("are files: pipes and the like are not opened", function()
    assert.equal(404, status "/pipe")
  end)

  it("may not be written", function()
    local answer = ask("/index.html", "Content-Length: 1\r\n\r\nx", "POST")
    assert.same({ 405, "GET, HEAD" }, { answer.status, answer.headers.allow })
  end)

  it("that have not changed are not sent again", function()
    local tag = ask("/index.html").headers.etag
    local date = "Sun, 22 Nov 2026 12:00:00 GMT"
    local before, after = "Sun, 22 Nov 2026 11:59:59 GMT", "Sun, 22 Nov 2026 12:00:01 GMT"
    local name = "/docs/a%20b.txt"
    local unchanged = ask("/index.html", "If-None-Match: " .. tag .. "\r\n")
    assert.same({ 304, "", nil }, { unchanged.status, unchanged.body, unchanged.length })
    assert.equal(tag, unchanged.headers.etag)
    for more, expected in pairs {
      ['If-None-Match: "x", W/' .. tag .. "\r\n"] = "/index.html 304",
      ["If-None-Match: *\r\n"] = "/index.html 304",
      ['If-None-Match: "x"\r\nIf-Modified-Since: ' .. after .. "\r\n"] = name .. " 200",
      ["If-Modified-Since: " .. date .. "\r\n"] = name .. " 304",
      ["If-Modified-Since: " .. before .. "\r\n"] = name .. " 200",
      ["If-Modified-Since: yesterday\r\n"] = name .. " 200",
      ['If-Match: "x"\r\n'] = name .. " 412",
      ["If-Match: " .. tag .. "\r\n"] = "/index.html 200",
      ["If-Match: W/" .. tag .. "\r\n"] = "/index.html 412",
      ["If-Unmodified-Since: " .. before .. "\r\n"] = name .. " 412",
      ["If-Unmodified-Since: " .. date .. "\r\n"] = name .. " 200",
    } do
      local target, wanted = expected:match "^(%S+) (%d+)$"
      assert.equal(tonumber(wanted), status(target, more), more)
    end
  end)

  it("come in part where a range is asked for", function()
    local name, tag = "/docs/a%20b.txt", ask("/docs/a%20b.txt").headers.etag
    for range, expected in pairs {
      ["bytes=0-0"] = { 206, "0", "bytes 0-0/10" },
      ["bytes=2-5"] = { 206, "2345", "bytes 2-5/10" },
      ["bytes=7-"] = { 206, "789", "bytes 7-9/10" },
      ["bytes=7-100"] = { 206, "789", "bytes 7-9/10" },
      ["bytes=-3"] = { 206, "789", "bytes 7-9/10" },
      ["bytes=-100"] = { 206, "0123456789", "bytes 0-9/10" },
      ["bytes=10-"] = { 416, "", "bytes */10" },
      ["bytes=-0"] = { 416, "", "bytes */10" },
      ["bytes=0-1,3-4"] = { 200, "0123456789" },
      ["bytes=5-2"] = { 200, "0123456789" },
      ["bytes=-"] = { 200, "0123456789" },
      ["bytes=0-99999999999999999999"] = { 200, "0123456789" },
      ["lines=1-2"] = { 200, "0123456789" },
    } do
      local answer = ask(name, "Range: " .. range .. "\r\n")
      assert.same(expected, { answer.status, answer.body, answer.headers["content-range"] }, range)
      assert.equal(#expected[2], answer.length)
    end
    for _, range in ipairs { "bytes=0-", "bytes=0-0", "bytes=-1" } do
      assert.equal(200, ask("/empty.css", "Range: " .. range .. "\r\n").status) -- of nothing there are no parts
    end
    local function conditional(condition)
      return status(name, "Range: bytes=0-0\r\nIf-Range: " .. condition .. "\r\n")
    end
    assert.equal(206, conditional(tag))
    assert.equal(206, conditional "Sun, 22 Nov 2026 12:00:00 GMT")
    assert.equal(200, conditional '"other"')
    assert.equal(200, conditional "Sun, 22 Nov 2026 12:00:01 GMT")
  end)

  it("are the policy's to refuse, and routes have folders of their own", function()
    server:close()
    local decision = require "khp.policy.decision"
    local _
    server, _, port = net.serve {
      root = root,
      routes = {
        { prefix = "/papers", root = root .. "/docs" },
        { path = "/echo", root = false, on_message = net.echo },
        {
          policy = {
            opening = function(request)
              return request.path == "/empty.css" and decision.reject(403) or nil
            end,
          },
        },
      },
    }
    assert.equal("0123456789", ask("/papers/a%20b.txt").body)
    assert.equal("<p>docs</p>", ask("/papers/").body)
    assert.equal("/papers/", ask("/papers").headers.location)
    assert.equal(426, status "/echo")
    assert.equal(403, status "/empty.css")
    assert.equal("<p>home</p>", ask("/index.html").body)
  end)

  it("that are missing altogether are told when the server begins", function()
    local none, message, code, detail = khp.listen { port = 0, root = root .. "/none" }
    assert.same({ nil, "root: " .. root .. "/none: No such file or directory", "ECONNECT" }, { none, message, code })
    assert.equal(root .. "/none", detail.root)
    none, message = khp.listen { port = 0, routes = { { root = root .. "/none" } } }
    assert.is_nil(none)
    assert.matches("No such file", message)
  end)
end)
