int farmer_answer(void) { return 42; }
