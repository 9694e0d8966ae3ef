---@meta
--- Types of the words of specs, which only files that `moonjet test` runs have: busted's, as far as
--- docs/scripting.md lists them. `jet.test` and what it returns are in moonjet.lua, beside this file.
--- Nothing here is ever run.

-- # Blocks

--- A block of tests, with hooks of its own.
---@param name string
---@param body fun()
function describe(name, body) end

--- The same as `describe`.
---@param name string
---@param body fun()
function context(name, body) end

--- A block that keeps what it does to globals and to loaded modules to itself.
---@param name string
---@param body fun()
function insulate(name, body) end

--- The same as `describe`, for the eye beside `insulate`.
---@param name string
---@param body fun()
function expose(name, body) end

--- A test. Without a function it is one to be written.
---@param name string
---@param test? fun()
function it(name, test) end

--- The same as `it`.
---@param name string
---@param body? fun()
function test(name, body) end

--- The same as `it`.
---@param name string
---@param body? fun()
function spec(name, body) end

--- In a block, a test to be written; in a test, ends it as one that does not count.
---@param name? string
---@param body? fun() is not run
function pending(name, body) end

--- Fails the test.
---@param message? any
function fail(message) end

--- Runs before each test of the block, and of those in it.
---@param hook fun()
function before_each(hook) end

--- Runs after each test of the block, and of those in it, whatever came of it.
---@param hook fun()
function after_each(hook) end

--- Runs once, before the block's tests.
---@param hook fun()
function setup(hook) end

--- Runs once, after the block's tests.
---@param hook fun()
function teardown(hook) end

--- The same as `setup`.
---@param hook fun()
function strict_setup(hook) end

--- The same as `teardown`.
---@param hook fun()
function strict_teardown(hook) end

--- As `setup`, where a test of the block is to run; behind it.
---@param hook fun()
function lazy_setup(hook) end

--- As `teardown`, where a test of the block was to run; before it.
---@param hook fun()
function lazy_teardown(hook) end

--- In a test: runs when it ends, whatever came of it, before `after_each`; of several, the last one
--- first.
---@param fn function | spec.Spy
function finally(fn) end

-- # Assertions

--- Words between dots and underscores are the same: `assert.is_not.same`, `assert.is_not_same`. A
--- last argument more is a message.
---@class spec.Assert
---@field is spec.Assert
---@field are spec.Assert
---@field has spec.Assert
---@field have spec.Assert
---@field was spec.Assert
---@field does spec.Assert
---@field no spec.Assert turns it round
---@field Not spec.Assert turns it round
---@field is_not spec.Assert turns it round
---@field are_not spec.Assert turns it round
---@field was_not spec.Assert turns it round
---@field has_no spec.Assert turns it round
---@field does_not spec.Assert turns it round
---@field is_true fun(value: any, message?: any)
---@field is_false fun(value: any, message?: any)
---@field is_nil fun(value: any, message?: any)
---@field True fun(value: any, message?: any)
---@field False fun(value: any, message?: any)
---@field Nil fun(value: any, message?: any)
---@field is_not_nil fun(value: any, message?: any)
---@field truthy fun(value: any, message?: any)
---@field falsy fun(value: any, message?: any)
---@field is_string fun(value: any, message?: any)
---@field is_number fun(value: any, message?: any)
---@field is_boolean fun(value: any, message?: any)
---@field is_table fun(value: any, message?: any)
---@field is_function fun(value: any, message?: any)
---@field is_userdata fun(value: any, message?: any)
---@field is_thread fun(value: any, message?: any)
---@field is_callable fun(value: any, message?: any) is a function, or works as one
---@field equals fun(expected: any, actual: any, message?: any) the same as `equal`
---@field match fun(pattern: string, text: any, message?: any) the same as `matches`
---@field error fun(fn: function | spec.Spy, expected?: any, message?: any) the same as `has_error`
---@field errors fun(fn: function | spec.Spy, expected?: any, message?: any) the same as `has_error`
---@overload fun(value: any, message?: any, ...: any): any
local Assert = {}

--- The tables hold the same. Where `expected` has a matcher, that says whether the value fits.
---@param expected any
---@param actual any
---@param message? any
function Assert.same(expected, actual, message) end

--- `==`: for tables, one and the same.
---@param expected any
---@param actual any
---@param message? any
function Assert.equal(expected, actual, message) end

--- The numbers differ by no more.
---@param expected number
---@param actual number
---@param tolerance number
---@param message? any
function Assert.near(expected, actual, tolerance, message) end

--- No value is in the table twice.
---@param list table
---@param deep? boolean tables that hold the same count as one value
---@param message? any
function Assert.unique(list, deep, message) end

--- The pattern is in the text.
---@param pattern string
---@param text any
---@param message? any
function Assert.matches(pattern, text, message) end

--- The function fails; with that error, if one is given. The place before its text does not count.
---@param fn function | spec.Spy
---@param expected? any
---@param message? any
function Assert.has_error(fn, expected, message) end

--- The function fails, and the pattern is in the error's text.
---@param fn function | spec.Spy
---@param pattern string
---@param message? any
function Assert.error_matches(fn, pattern, message) end

--- Says what the failure of the assertion behind it is about.
---@param message any
---@return spec.Assert
function Assert.message(message) end

--- Asserts something of a spy: `assert.spy(s).was.called(2)`.
---@param s function | spec.Spy
---@return spec.AssertSpy
function Assert.spy(s) end

--- The same as `assert.spy`.
---@param s function | spec.Spy
---@return spec.AssertSpy
function Assert.stub(s) end

---@type spec.Assert
assert = {}

---@class spec.AssertSpy
---@field was spec.AssertSpy
---@field has spec.AssertSpy
---@field was_not spec.AssertSpy turns it round
---@field has_not spec.AssertSpy turns it round
---@field called_at_least fun(times: integer, message?: any)
---@field called_at_most fun(times: integer, message?: any)
---@field called_more_than fun(times: integer, message?: any)
---@field called_less_than fun(times: integer, message?: any)
---@field was_called fun(times?: integer, message?: any) the same as `was.called`
---@field was_called_with fun(...: any) the same as `was.called_with`
---@field was_not_called fun(times?: integer, message?: any) the same as `was_not.called`
---@field was_not_called_with fun(...: any) the same as `was_not.called_with`
local AssertSpy = {}

--- So often; without a number, at least once.
---@param times? integer
---@param message? any
function AssertSpy.called(times, message) end

--- One of the calls had just these arguments, as they were then. Matchers stand for what fits.
---@param ... any
function AssertSpy.called_with(...) end

--- One of the calls returned just this.
---@param ... any
function AssertSpy.returned_with(...) end

-- # Spies

--- Arguments of a call, or what it returned: `vals` as it was then, `refs` the very same tables; both
--- with their number as `n`.
---@class spec.Call
---@field vals table
---@field refs table

--- What stands in for a function, calls it, and knows of each call.
---@class spec.Spy
---@field calls spec.Call[]
---@field returnvals spec.Call[] of calls that did not fail
---@overload fun(...: any): any
local Spy = {}

--- Forgets the calls so far.
---@return spec.Spy # itself
function Spy:clear() end

--- Puts back what was in the table before. The end of the block it was made in does that as well.
---@return function? # that
function Spy:revert() end

---@class spec.Spies
---@overload fun(fn?: function): spec.Spy
spy = {}

--- A spy that calls the function, or nothing.
---@param fn? function
---@return spec.Spy
function spy.new(fn) end

--- Puts a spy into the table, which calls what was there.
---@param t table
---@param key any
---@return spec.Spy
function spy.on(t, key) end

---@param value any
---@return boolean
function spy.is_spy(value) end

--- A spy that calls nothing, and returns what it is told.
---@class spec.Stub: spec.Spy
---@field by_default spec.StubAnswer the same `returns` and `invokes`
local Stub = {}

--- It returns this from now on.
---@param ... any
---@return spec.Stub # itself
function Stub.returns(...) end

--- It calls this function from now on.
---@param fn function
---@return spec.Stub # itself
function Stub.invokes(fn) end

--- What it does when it is called with just these arguments. Matchers stand for what fits.
---@param ... any
---@return spec.StubAnswer
function Stub.on_call_with(...) end

---@class spec.StubAnswer
---@field returns fun(...: any): spec.Stub
---@field invokes fun(fn: function): spec.Stub

--- Puts a stub into the table. It returns the values; a function, if that is the only one, is called.
---@param t? table
---@param key? any
---@param ... any
---@return spec.Stub
function stub(t, key, ...) end

---@class spec.Mock
---@overload fun(t: table, as_stubs?: boolean): table
mock = {}

--- Forgets the calls of all spies in the table, and in those inside it.
---@param t table
---@return table # itself
function mock.clear(t) end

--- Puts back what they stand for.
---@param t table
---@return table # itself
function mock.revert(t) end

-- # Matchers

---@class spec.Matcher
---@overload fun(value: any): boolean

--- Stand for values among the arguments of `called_with`, `returned_with` and `on_call_with`, and
--- anywhere in the expected value of `assert.same`.
---@class spec.Match
---@field _ spec.Matcher anything
---@field is spec.Match
---@field has spec.Match
---@field is_not spec.Match turns it round
---@field is_string fun(): spec.Matcher
---@field is_number fun(): spec.Matcher
---@field is_boolean fun(): spec.Matcher
---@field is_table fun(): spec.Matcher
---@field is_function fun(): spec.Matcher
---@field is_callable fun(): spec.Matcher
---@field is_true fun(): spec.Matcher
---@field is_false fun(): spec.Matcher
---@field is_nil fun(): spec.Matcher
---@field True fun(value: any, message?: any)
---@field False fun(value: any, message?: any)
---@field Nil fun(value: any, message?: any)
---@field is_not_nil fun(): spec.Matcher
---@field is_truthy fun(): spec.Matcher
---@field is_falsy fun(): spec.Matcher
match = {}

--- A table that holds the same.
---@param value any
---@return spec.Matcher
function match.same(value) end

---@param value any
---@return spec.Matcher
function match.equal(value) end

--- The very table, whatever has become of it since.
---@param value table
---@return spec.Matcher
function match.is_ref(value) end

--- A text that the pattern is in.
---@param pattern string
---@return spec.Matcher
function match.matches(pattern) end

---@param value number
---@param tolerance number
---@return spec.Matcher
function match.near(value, tolerance) end
