// The spec language itself for people and for editors, made from the parser's own tables.
#pragma once

#include <string>

namespace gdn::review {

// Markdown: every key with type, unit, legal values, rules, who chooses it and the mistake that it prevents; every
// tensor; every dimension; every rule.
std::string language_markdown();

// A JSON Schema (draft 7) of a spec, so that editors complete and mark specs. It knows keys, types, words and dtypes;
// what one value says about another only gdn-gen lint knows.
std::string language_schema();

}  // namespace gdn::review
