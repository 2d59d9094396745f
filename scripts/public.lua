-- What of lua/khp is public, found in its annotations: what `require "khp"` has, its parts, the modules listed below,
-- and every class that one of these mentions, until there is no other. Returns the function find(classes), whose
-- classes are public besides. It knows nothing of the code, only what is written above it.

local annotations = dofile "scripts/annotations.lua"

-- The modules that are public though khp does not have them as fields: one has to require them. In this order they are
-- shown: what policies and programs use first, what khp itself is made of last.
local MODULES = {
  { title = "Modules to require", "khp.policy.decision", "khp.auth", "khp.auth.basic", "khp.auth.bearer",
    "khp.auth.digest", "khp.auth.htpasswd", "khp.auth.users", "khp.redirect", "khp.status", "khp.static" },
  { title = "Handshakes without I/O", "khp.opening.client", "khp.opening.server", "khp.extended.client",
    "khp.extended.server" },
  { title = "Building blocks", "khp.metrics", "khp.auth.digest_server", "khp.auth.nonces" },
}

-- Reading ------------------------------------------------------------------------------------------------------------

local modules, classes, aliases, order = {}, {}, {}, {}

local function read_file(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

local function module_name(path)
  return (path:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", "."))
end

local function add_class(item, module)
  local class = classes[item.class.name]
  if not class then
    class = { name = item.class.name, module = module, fields = {}, methods = {}, text = {}, parent = nil }
    classes[class.name] = class
    order[#order + 1] = class.name
  end
  class.parent = class.parent or item.class.parent
  for _, text in ipairs(item.text) do
    class.text[#class.text + 1] = text
  end
  if item.class.text ~= "" then
    class.text[#class.text + 1] = item.class.text
  end
  for _, field in ipairs(item.fields) do
    if not field.hidden then
      class.fields[#class.fields + 1] = field
    end
  end
  class.since = class.since or item.since
  return class
end

-- A function that is described by its type is shown as one that has @param and @return.
local function unfold(item)
  local params, returns = annotations.signature(item.type and item.type.type or "")
  if not params or #item.params + #item.returns > 0 then
    return item
  elseif params[1] and params[1].name == "self" then
    table.remove(params, 1)
  end
  return { text = item.text, params = params, returns = returns, since = item.since, fields = {}, is_function = true }
end

-- A function, or a value, with its words.
local function member(item, target)
  return {
    name = target.name,
    method = target.method,
    arguments = target.arguments,
    item = unfold(item),
  }
end

-- The fields of a class that are functions: of a module those that are called as module.f(), else the methods.
local function take_functions(class, list, is_method)
  for i = #class.fields, 1, -1 do
    local field = class.fields[i]
    local of_self = field.type:find "^fun%(self" and not field.type:find "^fun%b()%?$"
    if is_method and of_self or not is_method and annotations.signature(field.type) then
      local item = { text = { field.text }, params = {}, returns = {}, type = field }
      table.insert(list, 1, member(item, { name = field.name, method = of_self }))
      table.remove(class.fields, i)
    end
  end
end

local function read_module(path)
  local file = annotations.read(read_file(path))
  local name = module_name(path)
  local module = { name = name, about = file.about, members = {}, hidden = {}, file = file, path = path }
  local owners = {}
  modules[name] = module
  for _, item in ipairs(file.items) do
    if item.alias then
      aliases[item.alias.name] = { name = item.alias.name, alias = item.alias, text = item.text, module = name }
      order[#order + 1] = item.alias.name
    end
    local class = item.class and add_class(item, name)
    for _, target in ipairs(item.targets) do
      if class and not target.owner then
        owners[target.name] = class
      elseif item.hidden then
        module.hidden[target.name] = true
      elseif target.owner and target.owner == file.returned then
        module.members[#module.members + 1] = member(item, target)
      elseif target.owner and owners[target.owner] and #item.text + #item.params + #item.returns > 0 then
        local methods = owners[target.owner].methods
        methods[#methods + 1] = member(item, target)
      end
    end
  end
  if owners[file.returned] then -- a module that is described as a class: its fields are what it has
    module.class = owners[file.returned]
    module.class.is_module = true
    take_functions(module.class, module.members, false)
  end
end

local function read_all()
  local pipe = assert(io.popen "find lua/khp -name '*.lua' | LC_ALL=C sort")
  for path in pipe:lines() do
    read_module(path)
  end
  pipe:close()
  for _, class in pairs(classes) do
    if not class.is_module then
      take_functions(class, class.methods, true)
    end
  end
end

local function find_member(module, name)
  for _, one in ipairs(module.members) do
    if one.name == name then
      return one
    end
  end
  return nil
end

-- What init.lua puts into khp, in its order: functions with words of their own or of where they were made, and parts.
local function read_entrance()
  local entrance = { functions = {}, parts = {}, missing = {} }
  local module = modules["khp"]
  for line in read_file(module.path):gmatch "[^\n]+" do
    local part, path = line:match '^  ([%w_]+) = "(khp%.[%w_.]+)",'
    local name, value = line:match "^khp%.([%w_]+) = ([%w_.]+)$"
    local defined = line:match "^function khp%.([%w_]+)%("
    if part then
      entrance.parts[#entrance.parts + 1] = { name = part, module = path }
    elseif name and module.file.requires[value] then
      entrance.parts[#entrance.parts + 1] = { name = name, module = module.file.requires[value] }
    elseif name or defined then
      local from, field = (value or ""):match "^([%w_]+)%.([%w_]+)$"
      local made = modules[module.file.requires[from] or ""]
      local found = find_member(module, name or defined) or made and find_member(made, field)
      if found then
        local copy = member(found.item, found)
        copy.name, copy.method = name or defined, false
        entrance.functions[#entrance.functions + 1] = copy
      else
        entrance.missing[#entrance.missing + 1] = "khp." .. (name or defined)
      end
    end
  end
  return entrance
end

-- What is public -----------------------------------------------------------------------------------------------------

local function each_type(one, f)
  for _, list in ipairs { one.item and one.item.params or {}, one.item and one.item.returns or {}, one.fields or {} } do
    for _, entry in ipairs(list) do
      f(entry.type or "")
    end
  end
  if one.item and one.item.type then
    f(one.item.type.type)
  end
end

local function collect(entrance, besides)
  local public, queue = {}, {}
  local function mention(types)
    for name in types:gmatch "khp%.[%w_.]+" do
      if (classes[name] or aliases[name]) and not public[name] then
        public[name] = true
        queue[#queue + 1] = name
      end
    end
  end
  local function visit_class(class)
    each_type(class, mention)
    mention(class.parent or "")
    for _, one in ipairs(class.methods) do
      each_type(one, mention)
    end
  end
  for _, one in ipairs(entrance.functions) do
    each_type(one, mention)
  end
  mention(table.concat(besides, " "))
  for _, name in ipairs(entrance.shown) do
    local module = modules[name]
    for _, one in ipairs(module.members) do
      each_type(one, mention)
    end
    if module.class then
      visit_class(module.class)
    end
  end
  while queue[1] do
    local name = table.remove(queue, 1)
    if classes[name] then
      visit_class(classes[name])
    else
      mention(aliases[name].alias.text)
      for _, value in ipairs(aliases[name].alias.values) do
        mention(value.value)
      end
    end
  end
  return public
end

--- A table with
---   modules   by name: members, class (where one describes it), hidden names, about, file
---   classes, aliases  by name; `order` has the names of both as they were read
---   entrance  of khp: functions, parts, missing (what has no words); `shown`: the modules that have a chapter;
---             `groups`: those of them that have to be required
---   public    the set of names of classes and aliases
---@param besides string[] names of classes
return function(besides)
  read_all()
  local entrance = read_entrance()
  entrance.shown, entrance.groups = {}, MODULES
  for _, part in ipairs(entrance.parts) do
    entrance.shown[#entrance.shown + 1] = part.module
  end
  for _, group in ipairs(MODULES) do
    for _, name in ipairs(group) do
      entrance.shown[#entrance.shown + 1] = name
    end
  end
  return {
    modules = modules,
    classes = classes,
    aliases = aliases,
    order = order,
    entrance = entrance,
    public = collect(entrance, besides),
  }
end
