package kinds

// shelf is not exported, and its methods are called like types of Python.
type shelf interface {
	List(int int) ([]string, error)
	Int() (int, error)
	Dict() (map[string]int, error)
}
