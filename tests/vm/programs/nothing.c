// The least that a program can do: a measure for what starting one costs.
int main(void) { return 0; }
