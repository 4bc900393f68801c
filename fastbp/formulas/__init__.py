"""Every formula of fastbp, written once, on single numbers.

A formula is a plain Python function of numbers and never looks at the machine: `fastbp.cpu.simd`
calls it once, while a kernel is being compiled, with numbers that write down the arithmetic done to
them (scalars or whole vectors, float32 or float64), and what they wrote becomes the kernel's code.
`fastbp.elementary` says what a formula may and may not do.
"""
