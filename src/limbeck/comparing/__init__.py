"""Fair comparison of distillation methods: equal search budgets, fresh seeds, test set read once, Holm's correction."""

__all__ = ["MethodComparison", "compare_methods"]

from limbeck.comparing.comparison import MethodComparison, compare_methods
