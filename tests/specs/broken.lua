jet.from { colection = "x" }
