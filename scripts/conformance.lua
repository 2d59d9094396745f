-- Holds the tests that ran against the table of requirements.
--
--   lua5.4 scripts/conformance.lua [--tap] [--write] RESULTS [DOCUMENT]
--
-- RESULTS is what scripts/tally.lua --log wrote: suite, outcome and title of each test, whose last brackets name rows
-- of spec/conformance/requirements.lua, "[E13 H9]". Prints the table: ID, what, how many tests name it, passed or not.
-- A row must have tests in each role that it is for, and none that failed. What role a test is about is said by its
-- file's name (client_spec.lua), else by a "client: " in its title, else by the words client and server there; tests of
-- the codec are about both, for the rows that are about nothing else.
-- --tap prints one test for each row instead, and one for the document (docs/conformance.md), which --write writes. The
-- status is 0 when every row holds. Knows nothing of the code that is tested.

local rows = dofile "spec/conformance/requirements.lua"

-- The files of the codec, and of the grammar that it reads: both roles use them as they are.
local CODEC = { "^spec/http_", "^spec/c/http_", "^spec/fuzz/corpus/http", "^spec/auth/", "^spec/crypto_" }

local function is_codec(suite)
  for _, pattern in ipairs(CODEC) do
    if suite:find(pattern) then
      return true
    end
  end
  return false
end

-- By ID: the row with its tests.
local function index()
  local known = {}
  for _, row in ipairs(rows) do
    assert(not known[row.id], row.id .. " is there twice")
    row.tests, row.failed, row.files = { client = 0, server = 0, all = 0 }, {}, {}
    known[row.id] = row
  end
  return known
end

local ROLES = { "client", "server" }

-- Which roles a test is about, as a set.
local function roles_of(file, title)
  for _, text in ipairs { file:match "[^/]*$", title:match "%f[%a](%a+: )" or "" } do
    local client, server = text:find "client" ~= nil, text:find "server" ~= nil
    if client ~= server then
      return { client = client, server = server }
    end
  end
  title = title:lower()
  return { client = title:find "client" ~= nil, server = title:find "server" ~= nil }
end

local function add(row, suite, outcome, title)
  local tests, file = row.tests, suite:match "^%S+"
  row.files[file] = true -- the document is the same wherever it is written, whatever a system lacks
  if outcome == "skip" then
    return
  end
  tests.all = tests.all + 1
  local about = roles_of(file, title)
  for _, role in ipairs(ROLES) do
    if about[role] or row.codec and is_codec(file) then
      tests[role] = tests[role] + 1
    end
  end
  if outcome ~= "ok" then
    row.failed[#row.failed + 1] = suite .. ": " .. title
  end
end

-- Reads the results; returns what names a row that there is not.
local function read(path, known)
  local unknown = {}
  for line in io.lines(path) do
    local suite, outcome, title = line:match "^([^\t]*)\t([^\t]*)\t(.*)$"
    local list = title:match "%[([EHOS]%d[%sEHOS%d]*)%][^%[]*$"
    for id in (list or ""):gmatch "%S+" do
      if known[id] then
        add(known[id], suite, outcome, title)
      else
        unknown[#unknown + 1] = suite .. ": " .. title .. ": there is no row " .. id
      end
    end
  end
  return unknown
end

-- What a row lacks, or nil.
local function complaint(row)
  if row.tests.all == 0 then
    return "no test names it"
  elseif row.failed[1] then
    return #row.failed == 1 and "a test failed" or #row.failed .. " tests failed"
  end
  for _, role in ipairs(row.who == "both" and ROLES or { row.who }) do
    if row.tests[role] == 0 then
      return "no test names it for the " .. role
    end
  end
  return nil
end

-- Words in lines of at most this many characters.
local function wrap(text, width)
  local lines, line = {}, ""
  for word in text:gmatch "%S+" do
    if line ~= "" and utf8.len(line) + 1 + utf8.len(word) > width then
      lines[#lines + 1], line = line, word
    else
      line = line == "" and word or line .. " " .. word
    end
  end
  lines[#lines + 1] = line
  return lines
end

local function print_table()
  local form = "%-5s %-70s %6s %6s %5s  %s\n"
  io.write(form:format("ID", "what", "client", "server", "tests", ""))
  for _, row in ipairs(rows) do
    local counts = {}
    for _, role in ipairs(ROLES) do
      local asked = row.who == "both" or row.who == role
      counts[#counts + 1] = asked and tostring(row.tests[role]) or "-"
    end
    for i, line in ipairs(wrap(row.what, 70)) do
      if i == 1 then
        io.write(form:format(row.id, line, counts[1], counts[2], row.tests.all, complaint(row) or "passed"))
      else
        io.write((" "):rep(6), line, "\n")
      end
    end
    for _, failure in ipairs(row.failed) do
      io.write((" "):rep(6), "failed: ", failure, "\n")
    end
  end
end

-- The document --------------------------------------------------------------------------------------------------------

local SECTIONS = {
  O = "The opening handshake", E = "The extended handshake", S = "Status codes", H = "The HTTP messages inside",
}

-- The files that name a row, as links; each is added to the set `linked`, by its name there.
local function links(row, linked)
  local names = {}
  for file in pairs(row.files) do
    local name = file:gsub("^spec/", ""):gsub("%.%w+$", "")
    names[#names + 1] = "[" .. name .. "]"
    linked[name] = file
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function document()
  local out = {
    "# Conformance",
    "",
    "What the protocol asks for, one row for each statement, and the tests that prove it. A test names its rows in",
    "brackets at the end of its title. `make conformance` runs the tests and prints this table with how many name each",
    "row in each role; in `make check` each row is a test, which fails when a role that the row is for has none. The",
    "rows stand in [requirements.lua](../spec/conformance/requirements.lua), conversations byte for byte in the",
    "[transcripts](../spec/conformance/README.md). This page is written by `make conformance WRITE=1`.",
  }
  local section
  local linked, names = {}, {}
  for _, row in ipairs(rows) do
    local letter = row.id:sub(1, 1)
    if letter ~= section then
      section = letter
      for _, line in ipairs { "", "## " .. SECTIONS[letter], "", "| ID | who | what | tests |", "|---|---|---|---|" } do
        out[#out + 1] = line
      end
    end
    out[#out + 1] = ("| %s | %s | %s | %s |"):format(row.id, row.who, row.what, links(row, linked))
  end
  for name in pairs(linked) do
    names[#names + 1] = name
  end
  table.sort(names)
  out[#out + 1] = ""
  for _, name in ipairs(names) do
    out[#out + 1] = ("[%s]: ../%s"):format(name, linked[name])
  end
  return table.concat(out, "\n") .. "\n"
end

local function read_file(path)
  local file = io.open(path, "rb")
  local text = file and file:read "a"
  if file then
    file:close()
  end
  return text
end

-- The whole -----------------------------------------------------------------------------------------------------------

local paths, tap, write = {}, false, false
for _, argument in ipairs(arg) do
  if argument == "--tap" then
    tap = true
  elseif argument == "--write" then
    write = true
  else
    paths[#paths + 1] = argument
  end
end
local results, page = paths[1], paths[2] or "docs/conformance.md"
assert(results, "the file of results is missing")

local unknown = read(results, index())
if write then
  local file = assert(io.open(page, "wb"))
  file:write(document())
  file:close()
end

local bad, number = 0, 0

local function test(name, wrong)
  number = number + 1
  bad = bad + (wrong and 1 or 0)
  if tap then
    io.write(wrong and "not ok " or "ok ", number, " - ", name, wrong and ": " .. wrong or "", "\n")
  elseif wrong then
    io.write(name, ": ", wrong, "\n")
  end
end

if not tap then
  print_table()
  io.write "\n"
end
for _, row in ipairs(rows) do
  test(row.id, complaint(row))
end
for _, text in ipairs(unknown) do
  test("the rows that tests name", text)
end
test(page, read_file(page) ~= document() and "is not as it should be: make conformance WRITE=1" or nil)
if tap then
  io.write("1..", number, "\n")
else
  io.write(("%d rows, %d of %d checks failed\n"):format(#rows, bad, number))
end
os.exit(bad == 0)
