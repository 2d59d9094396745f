-- khp.http as Lua sees it: the shape of messages and headers, parser objects fed in every way, the writer's refusals,
-- the grammar of header values. What each byte does is tried in spec/c/http_*_test.c.
local http = require "khp.http"

local REQUEST = "GET /chat?x=1 HTTP/1.1\r\nHost: h:80\r\nUpgrade: websocket\r\nAccept: a\r\nACCEPT: b\r\n\r\n"

-- All of a failure's values but the nil.
local function failure(...)
  local first, message, code, detail = ...
  assert.is_nil(first)
  return { message = message, code = code, status = detail and detail.status }
end

-- Feeds the parser in pieces of the given size until there is a message with its body.
local function feed(parser, bytes, size)
  local message, body
  local at = 1
  while at <= #bytes do
    local piece = bytes:sub(at, at + size - 1)
    at = at + #piece
    if not message then
      local text, code, detail
      message, text, code, detail = parser:head(piece)
      if text then return nil, text, code, detail end
      piece = ""
    end
    if message and not body then
      local text, code, detail
      body, text, code, detail = parser:body(piece)
      if text then return nil, text, code, detail end
    end
    if body then break end
  end
  return message, parser:rest() .. bytes:sub(at)
end

describe("khp.http", function()
  describe("parsing", function()
    it("reads a request [H1 H2]", function()
      local request, rest = http.parse_request(REQUEST .. "rest")
      assert.same({
        method = "GET", target = "/chat?x=1", path = "/chat", query = "x=1", version = "1.1", body = "",
        headers = request.headers,
      }, request)
      assert.equal("rest", rest)
    end)

    it("reads every form of target [H1]", function()
      local targets = {
        { "GET /", path = "/" },
        { "GET /a?", path = "/a", query = "" },
        { "GET http://h/a?b", path = "/a", query = "b" },
        { "GET http://h", path = "/" },
        { "GET http://h?b", path = "/", query = "b" },
        { "OPTIONS *", path = "*" },
        { "CONNECT h:1", path = "" },
        { "x-y!z /", path = "/" },
      }
      for _, target in ipairs(targets) do
        local request = assert(http.parse_request(target[1] .. " HTTP/1.1\r\n\r\n"))
        assert.equal(target[1], request.method .. " " .. request.target)
        assert.equal(target.path, request.path)
        assert.equal(target.query, request.query)
      end
    end)

    it("reads a response, its reason perhaps empty [H1]", function()
      local response, rest = http.parse_response("HTTP/1.1 101 Web Socket Protocol Handshake\r\nA: b\r\n\r\n\129\0")
      assert.equal(101, response.status)
      assert.equal("integer", math.type(response.status))
      assert.equal("Web Socket Protocol Handshake", response.reason)
      assert.equal("b", response.headers.a)
      assert.equal("", response.body)
      assert.equal("\129\0", rest)
      assert.equal("", http.parse_response("HTTP/1.1 200 \r\n\r\n").reason)
      assert.equal("", http.parse_response("HTTP/1.1 200\r\n\r\n").reason)
    end)

    it("accepts any 1.x and answers 505 to others [H6]", function()
      assert.equal("1.0", http.parse_request("GET / HTTP/1.0\r\n\r\n").version)
      assert.equal("1.12", http.parse_request("GET / HTTP/1.12\r\n\r\n").version)
      assert.equal("1.1", http.parse_request("GET / HTTP/01.01\r\n\r\n").version)
      assert.same({ message = "the HTTP version is not supported", code = "EPROTOCOL", status = 505 },
        failure(http.parse_request("GET / HTTP/2.0\r\n\r\n")))
      assert.equal(505, failure(http.parse_response("HTTP/0.9 200 OK\r\n\r\n")).status)
    end)

    it("returns a lone nil while something is missing [H10]", function()
      for size = 0, #REQUEST - 1 do
        assert.same({ n = 0 }, table.pack(http.parse_request(REQUEST:sub(1, size))))
      end
      assert.is_nil(http.parse_request("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na"))
      assert.is_nil(http.parse_request("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"))
    end)

    it("reads bodies of both kinds [H4]", function()
      local request, rest = http.parse_request("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcd")
      assert.equal("abc", request.body)
      assert.equal("d", rest)
      request, rest = http.parse_request(
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\nTrailer: x\r\n\r\nd")
      assert.equal("abc", request.body)
      assert.equal("d", rest)
    end)

    it("gives no body to 1xx, 204 and 304 [H4]", function()
      for _, status in ipairs { 100, 101, 204, 304 } do
        local response, rest = http.parse_response("HTTP/1.1 " .. status .. " x\r\nContent-Length: 3\r\n\r\nabc")
        assert.equal("", response.body)
        assert.equal("abc", rest)
      end
    end)

    it("refuses conflicting lengths [H4]", function()
      local heads = {
        ["Content-Length: 1\r\nContent-Length: 2"] = 400,
        ["Content-Length: 1\r\nTransfer-Encoding: chunked"] = 400,
        ["Content-Length: 1x"] = 400,
        ["Transfer-Encoding: chunked, chunked"] = 400,
        ["Transfer-Encoding: gzip, chunked"] = 501,
      }
      for head, status in pairs(heads) do
        local result = failure(http.parse_request("POST / HTTP/1.1\r\n" .. head .. "\r\n\r\n"))
        assert.equal("EPROTOCOL", result.code)
        assert.equal(status, result.status, head)
      end
    end)

    it("skips empty lines and tolerates a bare LF, unless strict [H5]", function()
      local bytes = "\r\n\nGET / HTTP/1.1\nA: b\n\n"
      assert.equal("b", http.parse_request(bytes).headers.a)
      local result = failure(http.parse_request(bytes, { strict = true }))
      assert.same({ message = "a line feed is not preceded by a carriage return", code = "EPROTOCOL", status = 400 },
        result)
    end)

    it("has an error of its own for each limit [H11]", function()
      local function request(fields, limits)
        return failure(http.parse_request("POST /path HTTP/1.1\r\n" .. fields .. "\r\n", limits))
      end
      local seen = {}
      for _, result in ipairs {
        { 431, request("A: b\r\n", { head = 20 }) },
        { 414, request("A: b\r\n", { line = 20 }) },
        { 431, request("A: 456789012345678901\r\n", { line = 22 }) },
        { 431, request("A: b\r\nC: d\r\n", { fields = 1 }) },
        { 413, request("Content-Length: 11\r\n", { body = 10 }) },
        { 413, request("Transfer-Encoding: chunked\r\n\r\nb\r\n", { body = 10 }) },
      } do
        assert.equal("ELIMIT", result[2].code)
        assert.equal(result[1], result[2].status)
        seen[result[2].message] = true
      end
      local count = 0
      for _ in pairs(seen) do count = count + 1 end
      assert.equal(5, count)
    end)

    it("holds the default limits [H11]", function()
      local function fields(n) return ("A: b\r\n"):rep(n) end
      assert.truthy(http.parse_request("GET / HTTP/1.1\r\n" .. fields(100) .. "\r\n"))
      assert.equal("there are too many headers",
        failure(http.parse_request("GET / HTTP/1.1\r\n" .. fields(101))).message)
      assert.truthy(http.parse_request("GET / HTTP/1.1\r\n" .. fields(1000) .. "\r\n", { fields = 1000 }))
      assert.equal(414, failure(http.parse_request("GET /" .. ("x"):rep(8192))).status)
      local long = "A: " .. ("x"):rep(8000) .. "\r\n"
      assert.equal("the head is too long",
        failure(http.parse_request("GET / HTTP/1.1\r\n" .. long .. long .. long)).message)
      assert.equal(413, failure(http.parse_request("POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n")).status)
    end)

    it("throws for limits that it does not know", function()
      assert.has_error(function() http.parse_request("", { heads = 1 }) end, "unknown limit 'heads'")
      assert.has_error(function() http.parser("request", { head = 0 }) end)
      assert.has_error(function() http.parser("request", { line = 1.5 }) end)
      assert.has_error(function() http.parser("request", { body = -1 }) end)
      assert.has_error(function() http.parser("question") end)
      assert.has_error(function() http.parse_request(nil) end)
    end)

    it("takes limits that were checked before [H11]", function()
      local limits = http.limits { fields = 1, head = 60 }
      assert.truthy(http.parse_request("GET / HTTP/1.1\r\nA: b\r\n\r\n", limits))
      assert.equal("there are too many headers",
        failure(http.parse_request("GET / HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n", limits)).message)
      local parser = http.parser("request", limits)
      assert.equal("the head is too long", failure(parser:head("GET /" .. ("x"):rep(60))).message)
      assert.truthy(http.parse_request("GET / HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n", http.limits()))
      assert.has_error(function() http.limits { heads = 1 } end, "unknown limit 'heads'")
      assert.has_error(function() http.parser("request", parser) end)
    end)
  end)

  describe("headers", function()
    local headers = http.parse_request(REQUEST).headers

    it("are found in any spelling, and combined [H2]", function()
      assert.equal("websocket", headers.upgrade)
      assert.equal("websocket", headers.Upgrade)
      assert.equal("websocket", headers.UPGRADE)
      assert.equal("a, b", headers.accept)
      assert.equal("a, b", headers.Accept)
      assert.is_nil(headers.fields)
      assert.is_nil(headers[true])
    end)

    it("keep order, spelling and repetition [H2]", function()
      local flat = { "Host", "h:80", "Upgrade", "websocket", "Accept", "a", "ACCEPT", "b" }
      assert.same(flat, { table.unpack(headers) })
      for _, iterate in ipairs { pairs, http.fields } do
        local seen = {}
        for name, value in iterate(headers) do
          seen[#seen + 1] = name
          seen[#seen + 1] = value
        end
        assert.same(flat, seen)
      end
      assert.same({ "a", "b" }, http.values(headers, "accept"))
      assert.same({ "a", "b" }, http.values(headers, "Accept"))
      assert.same({}, http.values(headers, "x"))
    end)

    it("have no methods to collide with [H2]", function()
      local names = { "pairs", "get", "fields", "values", "__index", "__pairs", "metatable", "1" }
      local bytes = "GET / HTTP/1.1\r\n"
      for _, name in ipairs(names) do
        assert.is_nil(headers[name])
        bytes = bytes .. name .. ": <" .. name .. ">\r\n"
      end
      local odd = http.parse_request(bytes .. "\r\n").headers
      for _, name in ipairs(names) do assert.equal("<" .. name .. ">", odd[name]) end
      assert.equal("pairs", odd[1])
      assert.is_false(getmetatable(odd))
    end)

    it("are joined with every repetition, however many names are alike [H2]", function()
      local bytes, expected = { "GET / HTTP/1.1" }, {}
      for i = 1, 500 do
        local name = "X-" .. i % 90
        bytes[#bytes + 1] = (i % 2 == 0 and name or name:lower()) .. ": " .. i
        local key = name:lower()
        expected[key] = expected[key] and expected[key] .. ", " .. i or tostring(i)
      end
      bytes[#bytes + 1] = "\r\n"
      local found = http.parse_request(table.concat(bytes, "\r\n"), { fields = 500 }).headers
      for key, value in pairs(expected) do assert.equal(value, found[key]) end
      assert.equal("X-2", found[3])
      assert.equal("x-1", found[1])
    end)

    it("have folded lines in one [H2]", function()
      local folded = http.parse_request("GET / HTTP/1.1\r\nA: b \r\n\t c\r\n d\r\nE:\r\n f\r\n\r\n").headers
      assert.equal("b c d", folded.a)
      assert.equal("b c d", folded[2])
      assert.equal("f", folded.e)
    end)

    it("of every length are told apart [H2]", function()
      for size = 1, 200 do
        local name = ("N"):rep(size)
        local bytes = "GET / HTTP/1.1\r\n" .. name .. ": 1\r\n" .. name:sub(2) .. "M: 2\r\nn" ..
          name:sub(2) .. ": 3\r\n\r\n"
        local found = http.parse_request(bytes).headers
        assert.equal("1, 3", found[name])
        assert.equal("2", found[name:sub(2) .. "m"])
        assert.equal(name, found[1])
        assert.equal("n" .. name:sub(2), found[5])
      end
    end)
  end)

  describe("a parser", function()
    local messages = {
      { "request", REQUEST },
      { "request", "\r\nPOST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello" },
      { "request", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n" },
      { "request", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" ..
        "3\r\nabc\r\n5;x=\"y\"\r\ndefgh\r\n0\r\nA: b\r\n\r\n" },
      { "response", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" },
      { "response", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno\n" },
      { "response", "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
    }

    it("gives the same wherever the splits fall [H10]", function()
      for _, case in ipairs(messages) do
        local kind, bytes = case[1], case[2]
        local whole = http["parse_" .. kind](bytes)
        for size = 1, #bytes do
          for _, limits in ipairs { {}, { fields = 200 } } do
            local message, rest = feed(http.parser(kind, limits), bytes .. "and more", size)
            assert.same(whole, message)
            assert.equal("and more", rest)
          end
        end
      end
    end)

    it("fails the same wherever the splits fall [H10]", function()
      for _, bytes in ipairs {
        "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "GET / HTTP/9.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        "GET /" .. ("x"):rep(300),
      } do
        local whole = failure(http.parse_request(bytes, { line = 250 }))
        for size = 1, #bytes do
          assert.same(whole, failure(feed(http.parser("request", { line = 250 }), bytes, size)))
        end
      end
    end)

    it("reads one message after the other [H10]", function()
      local parser = http.parser "request"
      local first = assert(parser:head(REQUEST .. "POST /2 HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /3 HTT"))
      assert.equal("/chat", first.path)
      assert.equal("", parser:body())
      local second = assert(parser:head(parser:rest()))
      assert.equal("/2", second.path)
      assert.is_nil(second.body)
      assert.equal("x", parser:body())
      assert.equal("x", second.body)
      assert.equal("x", parser:body())
      assert.is_nil(parser:head(parser:rest()))
      assert.is_nil(parser:head())
      local third = assert(parser:head("P/1.1\r\n\r\nrest"))
      assert.equal("/3", third.path)
      assert.equal("rest", parser:rest())
    end)

    it("gives the head before the body, so that 100 can be sent [H8]", function()
      local parser = http.parser "request"
      local request = assert(parser:head "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
      assert.equal("100-continue", request.headers.expect)
      assert.is_nil(parser:body())
      assert.is_nil(parser:body "ab")
      assert.is_nil(parser:body())
      assert.equal("abcd", parser:body "cdef")
      assert.equal("ef", parser:rest())
    end)

    it("takes further bytes with the question for a body that is there already [H10]", function()
      local parser = http.parser "request"
      assert(parser:head "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nab")
      assert.equal("a", parser:body "cd")
      assert.equal("bcd", parser:rest())
      assert(parser:head "GET / HTTP/1.1\r\n\r\n")
      assert.equal("", parser:body "x")
      assert.equal("x", parser:rest())
    end)

    it("says a failure again [H10]", function()
      local parser = http.parser "response"
      local first = failure(parser:head "Hello")
      assert.same({ message = "the response does not begin with an HTTP version", code = "EPROTOCOL", status = 400 },
        first)
      assert.same(first, failure(parser:head "HTTP/1.1 200 OK\r\n\r\n"))
      assert.same(first, failure(parser:body()))
      assert.has_error(function() parser:rest() end)
    end)

    it("throws when it is called in another order", function()
      local parser = http.parser "request"
      assert.has_error(function() parser:body() end, "the head is not complete: call head()")
      assert.has_error(function() parser:rest() end, "the message is not complete")
      assert(parser:head "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
      assert.has_error(function() parser:head "x" end, "the head is complete: call body() and rest()")
      parser:body "a"
      assert.has_error(function() parser:rest() end, "the message is not complete")
      parser:body "b"
      assert.has_error(function() parser:body "c" end)
      assert.has_error(function() parser.head(io.stdout) end)
      assert.has_error(function() parser.head() end)
    end)

    it("keeps no more than its limits allow [H11]", function()
      local parser = http.parser("request", { head = 1000 })
      assert.is_nil(parser:head "GET / HTTP/1.1\r\n")
      collectgarbage()
      local before = collectgarbage "count"
      local result = failure(parser:head("A: " .. ("x"):rep(1000000)))
      assert.equal("the head is too long", result.message)
      collectgarbage()
      assert.is_true(collectgarbage "count" - before < 20)
    end)
  end)

  describe("writing", function()
    it("writes requests [H1 H2]", function()
      assert.equal("GET /a?b HTTP/1.1\r\nHost: h\r\nA: 1\r\nA: 2\r\n\r\n", http.write_request {
        method = "GET", target = "/a?b", headers = { { "Host", "h" }, { "A", 1 }, { "A", "2" } } })
      assert.equal("GET /a HTTP/1.1\r\n\r\n", http.write_request { method = "GET", target = "/a" })
      assert.equal("OPTIONS * HTTP/1.0\r\n\r\n",
        http.write_request { method = "OPTIONS", target = "*", version = "1.0", headers = {} })
    end)

    it("writes responses [H1 H2]", function()
      assert.equal("HTTP/1.1 403 Forbidden\r\n\r\n", http.write_response { status = 403 })
      assert.equal("HTTP/1.1 101 Web Socket Protocol Handshake\r\n\r\n",
        http.write_response { status = 101, reason = "Web Socket Protocol Handshake" })
      assert.equal("HTTP/1.1 200 \r\n\r\n", http.write_response { status = 200, reason = "" })
      assert.equal("HTTP/1.1 299 \r\n\r\n", http.write_response { status = 299 })
    end)

    it("takes a map, sorted by name, with arrays of values [H2]", function()
      local bytes = http.write_response { status = 401, headers = {
        ["WWW-Authenticate"] = { "Basic realm=x", "Negotiate" }, Server = "khp", Age = 1, Empty = "", None = {} } }
      assert.equal("HTTP/1.1 401 Unauthorized\r\nAge: 1\r\nEmpty: \r\nServer: khp\r\n" ..
        "WWW-Authenticate: Basic realm=x\r\nWWW-Authenticate: Negotiate\r\n\r\n", bytes)
    end)

    it("writes what was read as it was [H2]", function()
      local bytes = "POST /x HTTP/1.1\r\nB: 1\r\na: 2\r\nb: 3\r\nContent-Length: 2\r\n\r\nhi"
      assert.equal(bytes, http.write_request((http.parse_request(bytes))))
      bytes = "HTTP/1.1 404 Gone Fishing\r\nB: 1\r\na: 2\r\n\r\n"
      local response = http.parse_response(bytes)
      response.body = nil
      assert.equal(bytes, http.write_response(response))
    end)

    it("adds Content-Length to a body [H4]", function()
      assert.equal("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", http.write_response { status = 200, body = "hi" })
      assert.equal("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", http.write_response { status = 200, body = "" })
      assert.equal("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi",
        http.write_request { method = "POST", target = "/", headers = { { "content-length", "2" } }, body = "hi" })
      assert.equal("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", http.write_response {
        status = 200, headers = { ["Transfer-Encoding"] = "chunked" }, body = "0\r\n\r\n" })
      assert.equal("HTTP/1.1 204 No Content\r\n\r\n", http.write_response { status = 204, body = "" })
    end)

    it("writes a head whose body comes later [H8]", function()
      assert.equal("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n",
        http.write_request { method = "POST", target = "/", headers = { ["Content-Length"] = 4 } })
    end)

    it("writes messages of any size [H2]", function()
      for _, size in ipairs { 0, 1, 1900, 2000, 2010, 2020, 2030, 2048, 2100, 100000 } do
        local value, body = ("v"):rep(size), ("b"):rep(size)
        local bytes = assert(http.write_request {
          method = "POST", target = "/", headers = { A = value, B = { value, "x" } }, body = body })
        local request = assert(http.parse_request(bytes, { head = 1000000, line = 200000, body = 200000 }))
        assert.equal(value, request.headers.a)
        assert.equal(body, request.body)
      end
    end)

    it("lets no line end or control out through a value [H3]", function()
      for byte = 0, 255 do
        local c = string.char(byte)
        local control = byte < 32 and byte ~= 9 or byte == 127
        local value = "a" .. c .. "b"
        for _, headers in ipairs { { X = value }, { { "X", value } }, { X = { value } } } do
          local bytes, message, code = http.write_response { status = 200, headers = headers }
          if control then
            assert.is_nil(bytes)
            assert.equal("a header value contains a control character: X", message)
            assert.equal("EPROTOCOL", code)
          else
            assert.equal("HTTP/1.1 200 OK\r\nX: " .. value .. "\r\n\r\n", bytes)
          end
        end
      end
    end)

    it("refuses what would read differently [H3]", function()
      local function request(change)
        local message = { method = "GET", target = "/", headers = {} }
        for key, value in pairs(change) do message[key] = value end
        local bytes, text, code = http.write_request(message)
        assert.is_nil(bytes)
        assert.equal("EPROTOCOL", code)
        return text
      end
      assert.equal("the request does not begin with a method", request { method = "GET /" })
      assert.equal("the request does not begin with a method", request { method = "" })
      assert.equal("the request target is malformed", request { target = "/ HTTP/1.1\r\nA: b" })
      assert.equal("the request target is malformed", request { target = "/a b" })
      assert.equal("the request target is malformed", request { target = "/\195\164" })
      assert.equal("the HTTP version is not supported", request { version = "2.0" })
      assert.equal("a header name is malformed", request { headers = { ["A:"] = "b" } })
      assert.equal("a header name is malformed", request { headers = { [""] = "b" } })
      assert.equal("a header name is malformed", request { headers = { { "A\r\nB", "b" } } })
      assert.equal("Content-Length is not the length of the body",
        request { headers = { ["Content-Length"] = 3 }, body = "ab" })
      assert.equal("Content-Length is malformed", request { headers = { ["Content-Length"] = "x" } })
      assert.equal("Content-Length is given twice with different values",
        request { headers = { ["Content-Length"] = { "1", "2" } } })
      assert.equal("Content-Length and Transfer-Encoding exclude each other",
        request { headers = { ["content-length"] = "0", ["Transfer-Encoding"] = "chunked" } })
    end)

    it("returns what is wrong with a message, and throws when it is none [H3]", function()
      local function response(message)
        local bytes, text, code = http.write_response(message)
        assert.is_nil(bytes)
        assert.equal("EPROTOCOL", code)
        return text
      end
      assert.equal("status must be an integer from 100 to 999", response {})
      assert.equal("status must be an integer from 100 to 999", response { status = 99 })
      assert.equal("status must be an integer from 100 to 999", response { status = "x" })
      assert.equal("reason must be a string", response { status = 200, reason = true })
      assert.equal("the reason phrase contains a control character", response { status = 200, reason = "a\nb" })
      assert.equal("headers must be a table", response { status = 200, headers = "A: b" })
      assert.equal("header names and values must be strings", response { status = 200, headers = { A = true } })
      assert.equal("header names and values must be strings", response { status = 200, headers = { A = { {} } } })
      assert.equal("header names and values must be strings", response { status = 200, headers = { [2] = "x" } })
      assert.equal("header names and values must be strings", response { status = 200, headers = { { "A" } } })
      assert.equal("header names and values must be strings", response { status = 200, headers = { "A" } })
      assert.equal("header names and values must be strings", response { status = 200, headers = { "A", "b", "C" } })
      assert.equal("header names and values must be strings", response { status = 200, headers = { "A", {} } })
      assert.equal("a list of headers consists of { name, value }",
        response { status = 200, headers = { { "A", "b" }, "C" } })
      assert.equal("body must be a string", response { status = 200, body = 5 })
      assert.equal("a response with this status has no body", response { status = 204, body = "x" })
      assert.equal("a response with this status has no body", response { status = 101, body = "x" })
      assert.equal("method must be a string", select(2, http.write_request { target = "/" }))
      assert.equal("target must be a string", select(2, http.write_request { method = "GET" }))
      assert.has_error(function() http.write_response() end)
      assert.has_error(function() http.write_request "GET /" end)
    end)
  end)

  describe("grammar", function()
    it("knows what a Host header can have [O2]", function()
      for _, value in ipairs { "", "a", "example.org:80", "[::1]:8080", "127.0.0.1", "a_b~c-d" } do
        assert.is_true(http.is_host(value), value)
      end
      for _, value in ipairs { "a b", "a,b", "a/b", "a+b", "u@a", "a\0", "\228" } do
        assert.is_false(http.is_host(value), value)
      end
    end)

    it("knows tokens [H3]", function()
      assert.is_true(http.is_token "x-kaazing!")
      for _, value in ipairs { "", "a b", "a/b", "\228", "a\0" } do assert.is_false(http.is_token(value)) end
      assert.is_false(http.is_token(nil))
      assert.is_false(http.is_token(5))
    end)

    it("reads lists of tokens [H3]", function()
      assert.same({ "keep-alive", "Upgrade" }, http.tokens ", keep-alive ,,Upgrade,")
      assert.same({}, http.tokens "")
      assert.same({ "the list of tokens is malformed" }, { select(2, http.tokens "a b") })
    end)

    it("reads and writes lists of extensions [E14]", function()
      local list = assert(http.extensions 'a; x=1; y; x=2; z="q\\u", b')
      assert.same({
        { name = "a", parameters = { "x", "y", "x", "z", x = "1", y = true, z = "qu" } },
        { name = "b", parameters = {} },
      }, list)
      assert.equal("a; x=1; y; z=qu, b", http.format_extensions(list))
      assert.same({}, http.extensions "")
      assert.same({ "the list of extensions is malformed" }, { select(2, http.extensions "a; =b") })
      assert.equal("a; x=1, b; c, d; e=5; f",
        http.format_extensions { "a;x=1", { name = "b", parameters = { "c" } },
          { name = "d", parameters = { f = true, e = 5 } } })
      assert.equal("", http.format_extensions {})
    end)

    it("writes no extension that would read differently [E14]", function()
      for _, extension in ipairs {
        "a, b", "a b", "", { name = "a b" }, {}, { name = "a", parameters = { "b c" } },
        { name = "a", parameters = { b = "c\r\n" } }, { name = "a", parameters = { b = false } },
      } do
        local value, message = http.format_extensions { extension }
        assert.is_nil(value)
        assert.equal("string", type(message))
      end
      assert.has_error(function() http.format_extensions "a" end,
        "bad argument #1 to 'format_extensions' (table expected, got string)")
    end)

    it("reads challenges, several in one header [H9]", function()
      assert.same({
        { scheme = "Digest", parameters = { "realm", "qop", "realm", realm = 'a "b", c', qop = "auth,auth-int" } },
        { scheme = "Negotiate", token68 = "YII=", parameters = {} },
        { scheme = "Bearer", parameters = {} },
      }, http.challenges 'Digest Realm="a \\"b\\", c", QOP="auth,auth-int", realm=x, Negotiate YII=, Bearer')
      assert.same({ "the challenge is malformed" }, { select(2, http.challenges 'Basic realm="x') })
      assert.same({}, http.challenges "")
    end)

    it("knows a challenge without reading it [H9]", function()
      for _, value in ipairs {
        'Basic realm="members"', "Basic realm=x, Bearer", "Negotiate YII=", "Application Basic realm=x", ", Bearer,",
      } do
        assert.is_true(http.is_challenge(value), value)
        assert.truthy(http.challenges(value)[1])
      end
      for _, value in ipairs { "", ",", 'Basic realm="x', "Basic realm=x y", "=", "Basic realm=x, =", "a\0" } do
        assert.is_false(http.is_challenge(value), value)
        assert.is_nil((http.challenges(value) or {})[1])
      end
    end)

    it("reads the two-word schemes of Kaazing servers [H9]", function()
      assert.same({
        { prefix = "Application", scheme = "Basic", parameters = { "realm", realm = "Kaazing Gateway Demo" } },
        { prefix = "Application", scheme = "Token", parameters = {} },
        { prefix = "Application", scheme = "Negotiate", token68 = "ws://h/ id", parameters = {} },
      }, http.challenges('application Basic realm="Kaazing Gateway Demo", Application Token, ' ..
        "Application Negotiate ws://h/ id"))
      assert.same({ scheme = "Basic", prefix = "Application", parameters = { "realm", realm = "x" } },
        http.challenges("Application Basic realm=x")[1])
    end)

    it("quotes and unquotes [H3]", function()
      assert.equal([["a \"b\" \\c"]], http.quote [[a "b" \c]])
      assert.equal([[a "b" \c]], http.unquote(http.quote [[a "b" \c]]))
      assert.equal('""', http.quote "")
      assert.equal("", http.unquote '""')
      assert.same({ "a control character cannot be quoted" }, { select(2, http.quote "a\r\nb") })
      for _, value in ipairs { "", '"', "a", '"a', '"a" ', '"a"b"', '"a\\"', '"\n"' } do
        assert.same({ "this is no quoted string" }, { select(2, http.unquote(value)) })
      end
      local long = ('"'):rep(5000)
      assert.equal(long, http.unquote(http.quote(long)))
    end)

    it("reads three formats of dates and writes the first [H7]", function()
      assert.equal("Sun, 06 Nov 1994 08:49:37 GMT", http.date(784111777))
      assert.equal("Sun, 06 Nov 1994 08:49:37 GMT", http.date(784111777.9))
      assert.equal("Wed, 31 Dec 1969 23:59:59 GMT", http.date(-0.5))
      for _, text in ipairs {
        "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994" } do
        assert.equal(784111777, http.parse_date(text))
      end
      assert.is_nil(http.parse_date "tomorrow")
      assert.is_true(math.abs(http.parse_date(http.date()) - os.time()) <= 2)
      assert.has_error(function() http.date(1e18) end)
      assert.has_error(function() http.date(0 / 0) end)
      assert.has_error(function() http.date(1e12) end)
    end)

    it("knows the standard phrases [H1]", function()
      assert.equal("Switching Protocols", http.reason(101))
      assert.equal("Found", http.reason(302))
      assert.equal("", http.reason(777))
      assert.equal("", http.reason(2 ^ 40))
    end)
  end)
end)
