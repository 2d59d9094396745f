-- Writes docs/reference.md from the annotations in lua/khp, or holds what is there against them.
--
--   lua5.4 scripts/reference.lua [--check]
--
-- What is public is found by scripts/public.lua. With --check the page is not written; the status is 1 when it would be
-- another one, or when something public has no words. Called as a function with "found", it returns what was found and
-- the page. It knows nothing of the code, only what is written above it.

local find = dofile "scripts/public.lua"

local PAGE = "docs/reference.md"
local SINCE = "0.1"

-- Where a class is shown; others are shown with the module that defines them, or at the end.
local SECTIONS = {
  { title = "Objects", classes = {
    "khp.Server", "khp.Connection", "khp.Closed", "khp.Keep", "khp.Down", "khp.Promise", "khp.Stats",
    "khp.PolicyStats",
  } },
  { title = "Policies", classes = {
    "khp.ServerPolicy", "khp.ClientPolicy", "khp.PolicyRequest", "khp.Session", "khp.FetchOptions", "khp.Decision",
    "khp.Accept", "khp.RequestAdditions", "khp.Action",
  } },
  { title = "Options", classes = {
    "khp.ListenOptions", "khp.ServerTls", "khp.Route", "khp.OriginList", "khp.ConnectOptions", "khp.ClientTls",
    "khp.Credentials", "khp.KeepOptions",
  } },
  { title = "Limits" },
  { title = "Error codes" },
  { title = "Extensions", classes = {
    "khp.Extension", "khp.ExtensionSession", "khp.Link", "khp.PermessageDeflateOptions",
  } },
}

-- What a variable of a class is called in a heading; else its last word in small letters.
local VARIABLES = {
  ["khp.Connection"] = "conn", ["khp.Keep"] = "kept", ["khp.auth.DigestServer"] = "checker",
  ["khp.auth.Htpasswd"] = "users", ["khp.Static"] = "files",
}

-- What a module that has to be required is called in headings; else its last word.
local LOCALS = {
  ["khp.opening.client"] = "opening_client", ["khp.opening.server"] = "opening_server",
  ["khp.extended.client"] = "extended_client", ["khp.extended.server"] = "extended_server",
}

-- Writing ------------------------------------------------------------------------------------------------------------

local besides = {}
for _, section in ipairs(SECTIONS) do
  for _, name in ipairs(section.classes or {}) do
    besides[#besides + 1] = name
  end
end

local found = find(besides)
local modules, classes, aliases, order = found.modules, found.classes, found.aliases, found.order
local entrance, public = found.entrance, found.public

local out, missing, anchors

local function line(text)
  out[#out + 1] = text or ""
end

-- Headings have anchors as GitHub makes them: of several that would be the same, the second one's ends with -1. Links
-- lead forward, too, so the page is written twice; the first time all anchors are found.
local known = {}

local function anchor(title)
  return known[title] or ""
end

local function heading(marks, title)
  local text = title:lower():gsub("[^%w_ -]", ""):gsub(" ", "-")
  local name, count = text, 0
  while anchors[name] do
    count = count + 1
    name = text .. "-" .. count
  end
  anchors[name], known[title] = true, name
  line()
  line(marks .. " " .. title)
end

-- A type as code, in which the classes of this page are links.
local function show_type(kind)
  local parts, at = {}, 1
  local function code(text)
    if text ~= "" then
      parts[#parts + 1] = "`" .. text .. "`"
    end
  end
  while true do
    local first, last = kind:find("khp%.[%w_.]+", at)
    if not first then
      break
    end
    local name = kind:sub(first, last)
    if public[name] then
      code(kind:sub(at, first - 1))
      parts[#parts + 1] = ("[`%s`](#%s)"):format(name, anchor(name))
      at = last + 1
    else
      code(kind:sub(at, last))
      at = last + 1
    end
  end
  code(kind:sub(at))
  return table.concat(parts)
end

local function words(list)
  return (table.concat(list, " "):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
end

-- A sentence begins with a capital, unless it begins with code.
local function sentence(text)
  return (text:gsub("^(%l)(%l* )", function(first, rest)
    return first:upper() .. rest
  end))
end

-- Comment lines as paragraphs; what is indented stays as it is, as code.
local function show_text(list)
  local paragraph, in_code = {}, false
  local function finish()
    if paragraph[1] then
      line()
      line(sentence(words(paragraph)))
      paragraph = {}
    end
  end
  for _, one in ipairs(list) do
    local code = one:match "^%s%s+(%S.*)$"
    if code then
      finish()
      if not in_code then
        line()
      end
      line("    " .. code)
    elseif one:find "%S" then
      paragraph[#paragraph + 1] = one
    else
      finish()
    end
    in_code = code ~= nil
  end
  finish()
end

local function is_optional(kind)
  return kind:sub(-1) == "?" or kind:find "|nil$" ~= nil or kind:find "^nil|" ~= nil
end

-- Arguments that may be left out are in brackets; one before an argument that must be there has to be nil instead.
local function signature(name, one)
  local params, arguments, last = one.item.params, {}, 0
  for i, param in ipairs(params) do
    last = is_optional(param.type) and last or i
  end
  for i, param in ipairs(params) do
    arguments[i] = (i > last and " [" or "") .. (i > 1 and ", " or "") .. param.name
  end
  return name .. "(" .. table.concat(arguments):gsub("^ %[", "[") .. ("]"):rep(#params - last) .. ")"
end

local function show_entry(prefix, entry)
  line(prefix .. show_type(entry.type or "any") .. (entry.text ~= "" and ": " .. entry.text or ""))
end

-- What says nothing is there since the first version.
local function show_since(since)
  if since then
    line()
    line(("Since %s."):format(since))
  end
end

-- A result has a name, as LuaLS has it: the first word behind its type.
local function show_result(result)
  local name, text = result.text:match "^([%a_][%w_]*)%s*(.*)$"
  if not name then
    name, text = result.text:match "^(%.%.%.)%s*(.*)$"
  end
  return (name and "`" .. name .. "` " or "") .. show_type(result.type) .. (text and text ~= "" and ": " .. text or "")
end

local function show_results(results)
  if results[1] then
    line()
    line("Returns" .. (results[2] and ":" or " " .. show_result(results[1])))
  end
  if results[2] then
    line()
    for number, result in ipairs(results) do
      line(number .. ". " .. show_result(result))
    end
  end
end

local function show_function(marks, name, one)
  local item = one.item
  local is_value = #item.params + #item.returns == 0 and not one.arguments and not item.is_function
  local title = is_value and name or signature(name, one)
  if words(item.text) == "" then
    missing[#missing + 1] = name
  end
  heading(marks, title)
  show_text(item.text)
  if item.type then
    line()
    show_entry("Type: ", item.type)
  end
  if item.params[1] then
    line()
    for _, param in ipairs(item.params) do
      show_entry("- `" .. param.name .. "` ", param)
    end
  end
  show_results(item.returns)
  show_since(item.since)
  return title
end

-- The classes whose every field must have words, not only a type.
local needs_words = {}
for _, name in ipairs(besides) do
  needs_words[name] = true
end

local function show_fields(class)
  if class.fields[1] then
    line()
  end
  for _, field in ipairs(class.fields) do
    if field.text == "" and needs_words[class.name] then
      missing[#missing + 1] = class.name .. "." .. field.name
    end
    show_entry("- `" .. field.name .. "` ", field)
  end
end

local function variable(class)
  return VARIABLES[class.name] or class.name:match "([%w_]+)$":lower()
end

local shown

local function show_alias(name)
  local alias = aliases[name].alias
  shown[name] = true
  heading("###", name)
  local text = words(aliases[name].text)
  if text ~= "" or alias.text ~= "" then
    line()
    line(sentence(text) .. (alias.text ~= "" and " " .. show_type(alias.text) or ""))
  end
  line()
  for _, value in ipairs(alias.values) do
    line("- " .. show_type(value.value) .. (value.text ~= "" and ": " .. value.text or ""))
  end
end

local function show_class(name)
  local class = classes[name]
  if not class then
    return show_alias(name)
  end
  shown[name] = true
  heading("###", name)
  show_text(class.text)
  if class.parent and public[class.parent] then
    line()
    line("Has all fields of " .. show_type(class.parent) .. ", and:")
  end
  show_fields(class)
  show_since(class.since)
  for _, one in ipairs(class.methods) do
    show_function("####", variable(class) .. ":" .. one.name, one)
  end
end

-- What a file is for, without what it must not know.
local function purpose(about)
  local text = words(about)
  for _, stop in ipairs { "This file must not", "It must not know", "The codec is C;", "; this file says" } do
    local first = text:find(stop, 1, true)
    text = first and text:sub(1, first - 1):gsub("%s+$", ""):gsub("%w$", "%0.") or text
  end
  return text
end

-- `called`: what stands for the module in headings.
local function show_module(name, title, called)
  local module = modules[name]
  heading("##", title)
  line()
  if called == name then
    line(("A field of `khp`: `%s`. %s"):format(name, purpose(module.about)))
  else
    line(("`local %s = require %q`"):format(called, name))
    line()
    line(purpose(module.about))
  end
  if module.class then
    shown[module.class.name] = true
    show_fields(module.class)
    show_since(module.class.since)
  end
  for _, one in ipairs(module.members) do
    show_function("###", called .. "." .. one.name, one)
  end
  for _, class in ipairs(order) do
    local from = classes[class] or aliases[class]
    if public[class] and not shown[class] and from.module == name then
      show_class(class)
    end
  end
end

local function show_errors()
  line()
  line "What the network, a peer, a policy or the system causes is returned as `nil, message, code, detail`. The"
  line "message is for people and may change; the code is one of these. Mistakes of the caller are thrown at its line."
  line()
  for _, entry in ipairs(dofile("lua/khp/errors.lua").list) do
    line(("- `%s`: %s"):format(entry.code, entry.meaning))
  end
end

-- The values that a limit may have, as khp.limits checks them.
local function range(limit)
  if limit.unit == "seconds" then
    return "0 to `math.huge`"
  end
  return limit.max and ("1 to %d"):format(limit.max) or "1 and more"
end

local function show_limits()
  package.path = "lua/?.lua;" .. package.path
  line()
  line "`limits = { message = 1024 }` is an option of `khp.listen`, `khp.connect` and `khp.keep`; `khp limits` prints"
  line "them. Limits in seconds are numbers, `math.huge` for no timeout; all others are integers. At `connections` the"
  line "server stops accepting: further clients wait in the system's queue (`backlog`) until a connection closes."
  line()
  line "| limit | default | range | unit | what it limits |"
  line "|---|---|---|---|---|"
  for _, limit in ipairs(require("khp.limits").list) do
    line(("| `%s` | %s | %s | %s | %s |"):format(limit.name, limit.default, range(limit), limit.unit, limit.what))
  end
end

-- The page ------------------------------------------------------------------------------------------------------------

local contents

-- A line of the contents: a chapter, and what is in it.
local function add_chapter(title, links)
  local list = {}
  for _, link in ipairs(links or {}) do
    list[#list + 1] = ("[%s](#%s)"):format(link[1], anchor(link[2]))
  end
  contents[#contents + 1] = ("- [%s](#%s)%s"):format(title, anchor(title), list[1] and ": " .. table.concat(list, " · ")
    or "")
end

local function show_entrance()
  local links = {}
  heading("##", "khp")
  line()
  line 'What `local khp = require "khp"` returns.'
  local module = modules["khp"]
  if module.class then
    shown[module.class.name] = true
    show_fields(module.class)
  end
  for _, one in ipairs(entrance.functions) do
    links[#links + 1] = { one.name, show_function("###", "khp." .. one.name, one) }
  end
  add_chapter("khp", links)
end

local function show_section(section)
  local links = {}
  heading("##", section.title)
  for _, name in ipairs(section.classes or {}) do
    if classes[name] or aliases[name] then
      links[#links + 1] = { name:match "[%w_]+$", name }
      show_class(name)
    else
      missing[#missing + 1] = name
    end
  end
  if section.title == "Limits" then
    show_limits()
  elseif section.title == "Error codes" then
    show_errors()
  end
  add_chapter(section.title, links)
end

local function show_parts()
  local links = {}
  heading("##", "Fields of khp")
  line()
  line "`khp` loads each of these when it is first used; `require \"khp.http\"` returns the same table."
  for _, part in ipairs(entrance.parts) do
    links[#links + 1] = { part.module, part.module }
    show_module(part.module, part.module, part.module)
  end
  add_chapter("Fields of khp", links)
end

local function show_group(group)
  local links = {}
  heading("##", group.title)
  for _, name in ipairs(group) do
    local title = ("require %q"):format(name)
    links[#links + 1] = { name, title }
    show_module(name, title, LOCALS[name] or name:match "[%w_]+$")
  end
  add_chapter(group.title, links)
end

local function show_rest()
  local links = {}
  for _, name in ipairs(order) do
    if public[name] and not shown[name] then
      links[#links + 1] = { name, name }
    end
  end
  if links[1] then
    heading("##", "Other types")
    for _, link in ipairs(links) do
      show_class(link[1])
    end
    add_chapter("Other types", links)
  end
end

-- The page, and what has no words.
local function page()
  out, missing, anchors, contents, shown = {}, {}, {}, {}, {}
  for _, name in ipairs(entrance.missing) do
    missing[#missing + 1] = name
  end
  show_entrance()
  for _, section in ipairs(SECTIONS) do
    show_section(section)
  end
  show_parts()
  for _, group in ipairs(entrance.groups) do
    show_group(group)
  end
  show_rest()
  local head = {
    "# Reference",
    "",
    "Every public name, written from the annotations in the source by `make reference`. The [guide](guide.md) explains",
    "how they work together.",
    "",
    "- A heading is what you type: `khp.connect(…)` after `local khp = require \"khp\"`. Where a module is not a",
    "  field of `khp`, its section begins with the `require` that its headings need. A name whose last part begins",
    "  with a capital, such as `khp.Connection`, is a type: what functions take and return, not a field of `khp`.",
    "- Times are in seconds and sizes in bytes unless stated otherwise. A type that ends in `?` may be nil;",
    "  arguments in `[ ]` are optional.",
    "- A function that waits suspends the task that calls it; in the main chunk it runs the event loop until it is",
    "  done; in a callback it throws.",
    "- Names without a \"Since\" line have been there since version " .. SINCE .. ".",
    "",
    table.concat(contents, "\n"),
  }
  return table.concat(head, "\n") .. "\n" .. table.concat(out, "\n") .. "\n"
end

page()
local text = page()

if ... == "found" then
  found.text, found.missing = text, missing
  return found
end

local check = arg[1] == "--check"
for _, name in ipairs(missing) do
  io.stderr:write(PAGE, ": ", name, " has no words\n")
end
if check then
  local file = io.open(PAGE)
  local now = file and file:read "a"
  if file then
    file:close()
  end
  if now ~= text then
    io.stderr:write(PAGE, " is not as it should be: make reference\n")
  end
  os.exit(now == text and #missing == 0)
end
local file = assert(io.open(PAGE, "w"))
file:write(text)
file:close()
