// Package calls tests generated code by calling it.  It is apart from package gen, whose tests write that code anew, so that these do not need it.
package calls
