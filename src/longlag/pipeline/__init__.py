"""From a task and data to a fitted, scored, saved model: what a command line or an estimator calls.

    parts = read_parts(path, "classification", columns, share=0.2, other=None, seed=0, horizon=None)
    pipeline = Pipeline.of(parts, Settings("classification", hidden=32), columns)
    fitted = pipeline.fit()
    fitted.save("model.longlag")
    answers = Fitted.load("model.longlag").predict(read("new.csv", task="classification"))

A library: it prints nothing and knows no options. The names stand in their modules, so that
`settings` can be had without PyTorch.
"""
