package gen

// SnakeCase is for tests from outside.
var SnakeCase = snakeCase
