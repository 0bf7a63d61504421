"""The tests: unit, contract, integration, acceptance, and the benchmarks."""
