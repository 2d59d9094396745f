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
  { title = "Options", classes = {
    "khp.ListenOptions", "khp.ServerTls", "khp.Route", "khp.OriginList", "khp.ConnectOptions", "khp.ClientTls",
    "khp.Credentials", "khp.KeepOptions",
  } },
  { title = "Objects", classes = {
    "khp.Server", "khp.Connection", "khp.Closed", "khp.Keep", "khp.Down", "khp.Promise",
  } },
  { title = "Policies", classes = {
    "khp.ServerPolicy", "khp.ClientPolicy", "khp.PolicyRequest", "khp.Session", "khp.FetchOptions", "khp.Decision",
    "khp.Accept", "khp.RequestAdditions",
  } },
  { title = "Extensions", classes = { "khp.Extension", "khp.ExtensionSession", "khp.Link" } },
}

-- What a variable of a class is called in a heading; else its last word.
local VARIABLES = { ["khp.Connection"] = "conn", ["khp.Keep"] = "kept" }

-- Writing ------------------------------------------------------------------------------------------------------------

local besides = {}
for _, section in ipairs(SECTIONS) do
  for _, name in ipairs(section.classes) do
    besides[#besides + 1] = name
  end
end

local found = find(besides)
local modules, classes, aliases, order = found.modules, found.classes, found.aliases, found.order
local entrance, public = found.entrance, found.public

local out, missing

local function line(text)
  out[#out + 1] = text or ""
end

local function anchor(name)
  return (name:lower():gsub("[^%w_ -]", ""):gsub(" ", "-"))
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

local function is_optional(kind)
  return kind:sub(-1) == "?" or kind:find "|nil$" ~= nil or kind:find "^nil|" ~= nil
end

local function signature(name, one)
  local arguments, tail = {}, ""
  for _, param in ipairs(one.item.params) do
    local sep = #arguments > 0 and ", " or ""
    if is_optional(param.type) then
      arguments[#arguments + 1] = " [" .. sep .. param.name
      tail = tail .. "]"
    else
      arguments[#arguments + 1] = sep .. param.name
    end
  end
  local text = table.concat(arguments)
  return name .. "(" .. text:gsub("^ %[", "[") .. tail .. ")"
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

local function show_results(results)
  local list = {}
  for _, result in ipairs(results) do
    list[#list + 1] = show_type(result.type) .. (result.text ~= "" and " " .. result.text or "")
  end
  if list[1] then
    line()
    line("Returns " .. table.concat(list, "; "))
  end
end

local function show_function(heading, name, one)
  local item = one.item
  local is_value = #item.params + #item.returns == 0 and not one.arguments
    and not (item.type and item.type.type:find "^fun%(")
  local text = words(item.text)
  if text == "" then
    missing[#missing + 1] = name
  end
  line()
  line(heading .. " " .. (is_value and name or signature(name, one)))
  line()
  line(sentence(text))
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

local shown = {}

local function show_alias(name)
  local alias = aliases[name].alias
  shown[name] = true
  line()
  line("### " .. name)
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
  line()
  line("### " .. name)
  local text = words(class.text)
  if text ~= "" then
    line()
    line(sentence(text))
  end
  if class.parent then
    line()
    line("It is a " .. show_type(class.parent) .. ", and has all that one has.")
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
  local stop = text:find("This file must not", 1, true) or text:find("It must not know", 1, true)
    or text:find("; this file says what there is", 1, true)
  return (text:sub(1, (stop or 0) - 1):gsub("%s+$", ""))
end

local function show_module(name)
  local module = modules[name]
  line()
  line("## " .. name)
  line()
  line(purpose(module.about))
  if module.class then
    shown[module.class.name] = true
    show_fields(module.class)
    show_since(module.class.since)
  end
  for _, one in ipairs(module.members) do
    show_function("###", name .. "." .. one.name, one)
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
  line "## Error codes"
  line()
  line "What the network, a peer, a policy or the system can cause is returned as `nil, message, code, detail`; the"
  line "code is one of these. What the caller did wrong is thrown, at the caller's line."
  line()
  for _, entry in ipairs(dofile("lua/khp/errors.lua").list) do
    line(("- `%s`: %s"):format(entry.code, entry.meaning))
  end
end

local function show_limits()
  package.path = "lua/?.lua;" .. package.path
  line()
  line "## Limits"
  line()
  line "`limits = { message = 1024 }` of `khp.listen` and `khp.connect`; `khp limits` prints the same."
  line()
  line "| limit | default | unit | bounds |"
  line "|---|---|---|---|"
  for _, limit in ipairs(require("khp.limits").list) do
    line(("| `%s` | %s | %s | %s |"):format(limit.name, limit.default, limit.unit, limit.what))
  end
end

local function contents(titles)
  local list = {}
  for _, title in ipairs(titles) do
    list[#list + 1] = ("[%s](#%s)"):format(title, anchor(title))
  end
  return table.concat(list, " · ")
end

-- The page, and what has no words.
local function page()
  out, missing = {}, {}
  for _, name in ipairs(entrance.missing) do
    missing[#missing + 1] = name
  end
  line()
  line "## khp"
  line()
  line 'What `require "khp"` returns.'
  for _, one in ipairs(entrance.functions) do
    show_function("###", "khp." .. one.name, one)
  end
  for _, section in ipairs(SECTIONS) do
    line()
    line("## " .. section.title)
    for _, name in ipairs(section.classes) do
      if classes[name] then
        show_class(name)
      else
        missing[#missing + 1] = name
      end
    end
  end
  local titles = { "khp" }
  for _, section in ipairs(SECTIONS) do
    titles[#titles + 1] = section.title
  end
  for _, name in ipairs(entrance.shown) do
    titles[#titles + 1] = name
    show_module(name)
  end
  local rest = {}
  for _, name in ipairs(order) do
    if public[name] and not shown[name] then
      rest[#rest + 1] = name
    end
  end
  if rest[1] then
    titles[#titles + 1] = "Other types"
    line()
    line "## Other types"
    for _, name in ipairs(rest) do
      show_class(name)
    end
  end
  show_errors()
  show_limits()
  titles[#titles + 1], titles[#titles + 2] = "Error codes", "Limits"
  local head = {
    "# Reference",
    "",
    "Every public name, written from the annotations in the source by `make reference`. Times are in seconds and",
    "sizes in bytes where nothing else is said; a type that ends in `?` may be nil; what names no version is there",
    "since " .. SINCE .. ". How things belong together is told in the [guide](guide.md).",
    "",
    contents(titles),
  }
  return table.concat(head, "\n") .. "\n" .. table.concat(out, "\n") .. "\n"
end

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
